"""The machine's timing log: a header object, then one array per step; append-only, so a kill loses little."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from deblurkit.timing.records import Beside, Note, StepTiming
from deblurkit.timing.step_file import StepFile

SCHEMA = "deblurkit-timing/1"


class JsonLinesLog(StepFile):
    """Appends ``[step, unix_time, wall_ms, value, …]`` rows whose values follow the header's ``names``.

    A name that appears later is announced by a new ``{"names": [...]}`` line; ``null`` is "not measured in
    this step", which is not zero. ``unaccounted`` is not written: it is the wall time less the top level. A
    ``clock`` in such a line is that of the rows after it; ``beside`` names what took ``seconds`` beside the
    steps, and ``overhead`` in the last one is what timing cost; a run that was killed has none.
    Any other key is a note between two steps, with what it tells as an object.
    """

    def __init__(
        self,
        path: Path,
        *,
        rank: int,
        world_size: int,
        clock: str,
        samples_per_step: int | None,
        started_at: float,
        flush_interval: int,
    ) -> None:
        super().__init__(path, flush_interval=flush_interval)
        self._names: list[str] = []
        self._known: set[str] = set()
        self._template = "[%d,%.3f,%.4f]\n"
        self._own_clock = self._clock = clock
        head = {
            "schema": SCHEMA,
            "rank": rank,
            "world_size": world_size,
            "started_at": started_at,
            "clock": clock,
            "unit": "ms",
            "samples_per_step": samples_per_step,
            "names": self._names,
        }
        self._write(head)
        self._file.flush()

    def write_step(self, timing: StepTiming) -> None:
        """Append the row of one step."""
        self._announce(timing)
        rows = timing.milliseconds
        if list(rows) == self._names:  # as nearly always
            self._file.write(self._template % (timing.step, timing.unix_time, timing.wall_ms, *rows.values()))
        else:
            values = [rows.get(name) for name in self._names]
            cells = "".join([",null" if value is None else f",{value:.4f}" for value in values])
            self._file.write(f"[{timing.step},{timing.unix_time:.3f},{timing.wall_ms:.4f}{cells}]\n")
        self._step_written()

    def write_beside(self, beside: Beside) -> None:
        """Append what was done beside the steps, and what it took."""
        seconds = round(beside.seconds, 6)
        what = {"beside": beside.name, "seconds": seconds, "count": beside.count}
        self._write({**self._in_force(), **what, "after_step": beside.after_step})

    def write_note(self, note: Note) -> None:
        """Append what was told between two steps; it is on the disk at once, should the run be killed."""
        when = {"after_step": note.after_step, "unix_time": round(note.unix_time, 3)}
        self._write({**self._in_force(), note.kind: dict(note.content), **when})
        self._file.flush()

    def close(self, overhead: Mapping[str, float] | None = None) -> None:
        """Append what timing has cost, if that is known, and close the file; closing twice does no harm."""
        if not self._file.closed:
            if overhead is not None:
                self._write({"names": self._names, "overhead": dict(overhead)})
            self._file.close()

    def _in_force(self) -> dict[str, object]:
        """Return the names, and the clock where it is not the log's own, for a line that changes neither."""
        return {"names": self._names, **({} if self._clock == self._own_clock else {"clock": self._clock})}

    def _announce(self, timing: StepTiming) -> None:
        """Write the names and the clock of the rows from now on, where one of them is new."""
        new = [name for name in timing.milliseconds if name not in self._known]
        clock = timing.clock if timing.clock is not None else self._own_clock
        if not new and clock == self._clock:
            return
        self._names += new
        self._known.update(new)
        self._template = f"[%d,%.3f,%.4f{',%.4f' * len(self._names)}]\n"
        self._write({"names": self._names, **({} if clock == self._clock else {"clock": clock})})
        self._clock = clock

    def _write(self, row: object) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
