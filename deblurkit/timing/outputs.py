"""The files of a timing log, opened and closed together; a disk that is full ends them, not the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deblurkit.timing.csv_log import CsvLog
from deblurkit.timing.json_lines import JsonLinesLog
from deblurkit.timing.overhead import OwnCost
from deblurkit.timing.records import Beside, Note, StepTiming
from deblurkit.timing.statistics import Statistics
from deblurkit.timing.text_log import TextLog, header
from deblurkit.timing.trace import TraceLog, TraceSpan


class StepOutput(Protocol):
    """Takes finished steps; what a program adds to the files here (`scalars.Scalars`, say)."""

    def write_step(self, timing: StepTiming) -> None:
        """Take one step."""
        ...

    def close(self) -> None:
        """Write out what is left; may be called twice."""
        ...


@dataclass(frozen=True)
class LogFiles:
    """Which files to write, where, and what their first lines say.

    Attributes:
        folder: made if missing.
        rank: all ranks write JSON lines (and a table and a trace, if asked for), rank 0 also the text log.
        started_at: unix time in their names; now where None.
    """

    folder: Path
    rank: int
    world_size: int
    clock: str
    samples_per_step: int | None
    flush_interval: int
    csv: bool = False
    trace: bool = False
    started_at: float | None = None

    def open(self) -> Outputs:
        """Create the files and return them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        started_at = time.time() if self.started_at is None else self.started_at
        stem = _free_stem(self.folder, int(started_at), self.rank)
        own = f"{stem}.rank{self.rank}"
        outputs = Outputs()
        outputs.lines = JsonLinesLog(
            self.folder / f"{own}.jsonl",
            rank=self.rank,
            world_size=self.world_size,
            clock=self.clock,
            samples_per_step=self.samples_per_step,
            started_at=started_at,
            flush_interval=self.flush_interval,
        )
        if self.rank == 0:
            outputs.text = self._text_log(self.folder / f"{stem}.log", started_at)
        if self.csv:
            outputs.csv = CsvLog(self.folder / f"{own}.csv", flush_interval=self.flush_interval)
        if self.trace:
            outputs.trace = TraceLog(self.folder / f"{own}.trace.json", rank=self.rank, clock=self.clock)
        return outputs

    def _text_log(self, path: Path, started_at: float) -> TextLog:
        head = header(
            rank=self.rank,
            world_size=self.world_size,
            clock=self.clock,
            samples_per_step=self.samples_per_step,
            started_at=started_at,
        )
        return TextLog(path, head=head, flush_interval=self.flush_interval)


class Outputs:
    """The files of a log that there are; steps go to all of them.

    Attributes:
        text, lines, csv, trace: None where there is none, or none any more.
        others: of the program's own.
        warn: told once where a file cannot be written.
    """

    def __init__(self) -> None:
        self.text: TextLog | None = None
        self.lines: JsonLinesLog | None = None
        self.csv: CsvLog | None = None
        self.trace: TraceLog | None = None
        self.others: list[StepOutput] = []
        self.warn: Callable[[str], None] = lambda text: None

    def write_step(self, timing: StepTiming, statistics: Mapping[str, Statistics]) -> None:
        """Append one step to every file, and hand it to the others."""
        try:
            if self.text is not None:
                self.text.write_step(
                    timing, {name: row.total / row.count for name, row in statistics.items()}
                )
            if self.lines is not None:
                self.lines.write_step(timing)
            if self.csv is not None:
                self.csv.write_step(timing)
        except OSError as error:
            self._end_files(error)
        for other in self.others:
            other.write_step(timing)

    def write_beside(self, beside: Beside) -> None:
        """Append what was done beside the steps."""
        try:
            if self.text is not None:
                self.text.write_beside(beside)
            if self.lines is not None:
                self.lines.write_beside(beside)
        except OSError as error:
            self._end_files(error)

    def write_note(self, note: Note) -> None:
        """Append what was told between two steps."""
        try:
            if self.text is not None:
                self.text.write_note(note)
            if self.lines is not None:
                self.lines.write_note(note)
        except OSError as error:
            self._end_files(error)

    def write_trace(self, step: int, spans: Iterable[TraceSpan], *, start_us: float, end_us: float) -> None:
        """Append the spans of one step to the trace, if there is one."""
        try:
            if self.trace is not None:
                self.trace.write_step(step, spans, start_us=start_us, end_us=end_us)
        except OSError as error:
            self._end_files(error)

    def end_trace(self) -> None:
        """Close the trace: what is in it is all that was asked for."""
        try:
            if self.trace is not None:
                self.trace.close()
        except OSError as error:
            self._end_files(error)

    def close(self, *, summary: str, cost: OwnCost) -> None:
        """Write the summary and what timing has cost, and close everything; closing twice does no harm."""
        try:
            if self.text is not None:
                self.text.close(summary)
            if self.lines is not None:
                self.lines.close(cost.as_dict())
            if self.csv is not None:
                self.csv.close()
            if self.trace is not None:
                self.trace.close()
        except OSError as error:
            self._end_files(error)
        for other in self.others:
            other.close()

    def _end_files(self, error: OSError) -> None:
        """Go on without the files, as they cannot be written (a full disk): a log must not end a run."""
        for log in (self.text, self.lines, self.csv, self.trace):
            if log is not None:
                log.abandon()
        self.text = self.lines = self.csv = self.trace = None
        self.warn(f"the timing log ends here: {error.strerror}")


def _free_stem(folder: Path, seconds: int, rank: int) -> str:
    """Return ``timing_{seconds}``, counted up past the files of this rank's run of the same second."""
    while any(folder.glob(f"timing_{seconds}.rank{rank}.*")) or (
        rank == 0 and (folder / f"timing_{seconds}.log").exists()
    ):
        seconds += 1
    return f"timing_{seconds}"
