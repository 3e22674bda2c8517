"""Reader of the JSON-lines timing log: a header object, then ``[step, unix time, wall ms, …]`` rows."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable

import numpy as np

from deblurkit.analysis.formats.log_figures import Figure
from deblurkit.analysis.formats.memory_notes import frames_of, memory_event, memory_figures
from deblurkit.analysis.formats.number_rows import number_rows
from deblurkit.analysis.lines import chunks_of
from deblurkit.analysis.tables import LARGEST_STEP, LONGEST_MS, Event, RunLog, StepRows, is_duration, is_step
from deblurkit.errors import DeblurkitError
from deblurkit.timing.json_lines import SCHEMA
from deblurkit.timing.records import MEMORY, MEMORY_WARNING, UNACCOUNTED, Beside, clean_name
from deblurkit.units import plural

_FAMILY = SCHEMA.rpartition("/")[0] + "/"
_WITH_SCHEMA = re.compile(rb'^.*"schema".*$', re.MULTILINE)
_FIXED_COLUMNS = 3
_DECIMALS = (0, 3, 4)  # of a step's number, its unix time, and all milliseconds


def looks_like_json_lines(head: bytes) -> bool:
    """Return whether one of the first whole lines of a file is the header object of a timing log."""
    candidates = _WITH_SCHEMA.finditer(head) if b'"schema"' in head else ()
    return any(_schema(_parse(found[0])).startswith(_FAMILY) for found in candidates)


def read_json_lines(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return the steps of a JSON-lines timing log; lines that are not whole are counted and left out.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if no complete step is in it, or the log is of a later version.
    """
    parser = _Parser(source)
    for chunk in chunks_of(lines):
        parser.feed(chunk)
    return parser.finish()


class _Parser:
    """The names in force and the steps so far."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._rows = StepRows()
        self._names: list[str] = []
        self._samples_per_step: int | None = None
        self._rank: int | None = None
        self._world_size: int | None = None
        self._damaged = 0
        self._beside: list[Beside] = []
        self._looks: list[tuple[Figure, float]] = []  # at memory
        self._events: list[Event] = []
        self._clocks: dict[str, int] = {}
        self._own_clock = self._clock = ""

    def feed(self, text: bytes) -> None:
        """Take whole lines in: rows that follow each other at once where they are as they should be."""
        pieces = itertools.groupby(text.split(b"\n"), key=_is_object) if b"{" in text else [(False, [text])]
        for is_object, lines in pieces:
            rows = b"" if is_object else b"\n".join(lines).strip(b"\n")
            if is_object or not self._take_rows(rows):
                for line in lines if is_object else rows.split(b"\n"):
                    if line.strip():
                        self._feed_line(_parse(line))

    def _feed_line(self, line: object) -> None:
        understood = False
        if isinstance(line, list):
            understood = self._take_row(line)
        elif isinstance(line, dict):
            understood = self._take_object(line)
        self._damaged += not understood

    def finish(self) -> RunLog:
        """Return what was read."""
        if not len(self._rows):
            raise DeblurkitError(
                f"{self._source}: no complete step: expected rows `[step, unix time, total ms, …]` after the"
                f" header, {plural(self._damaged, 'line')} could not be read; let the run finish a step, or"
                " check that the file was copied whole"
            )
        steps, times = self._rows.frames()
        return RunLog(
            source=self._source,
            format="timing-jsonl",
            steps=steps,
            times=times,
            num_steps=len(steps),
            samples_per_step=self._samples_per_step,
            damaged_lines=self._damaged,
            rank=self._rank,
            notes=self._notes(),
            beside=tuple(self._beside),
            world_size=self._world_size,
            scalars=frames_of(self._looks),
            events=tuple(self._events),
        )

    def _take_object(self, line: dict[str, object]) -> bool:
        schema = _schema(line)
        if schema.startswith(_FAMILY) and schema != SCHEMA:
            raise DeblurkitError(
                f"{self._source}: a timing log of schema {schema[:40]!r}; this deblurkit reads {SCHEMA!r}:"
                " update deblurkit"
            )
        names = line.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return False
        self._names = [clean_name(name) for name in names]
        samples = line.get("samples_per_step")
        if is_step(samples) and samples > 0:
            self._samples_per_step = samples
        rank, ranks = line.get("rank"), line.get("world_size")
        if is_step(rank):
            self._rank = rank
        if is_step(ranks) and ranks > 0:
            self._world_size = ranks
        if schema:
            self._own_clock = str(line.get("clock", ""))
        self._clock = str(line.get("clock", self._own_clock))
        return self._take_note(line)

    def _take_note(self, line: dict[str, object]) -> bool:
        """Take in what a line tells beside names; return whether it could be understood."""
        if "beside" in line:
            return self._take_beside(line)
        if MEMORY in line:
            return self._take_look(line)
        if MEMORY_WARNING in line:
            event = memory_event(line)
            self._events += [event] if event is not None else []
            return event is not None
        return True

    def _take_look(self, line: dict[str, object]) -> bool:
        figures, moment = memory_figures(line), line.get("unix_time")
        if figures is None:
            return False
        unix_s = float(moment) if is_duration(moment) else math.nan
        self._looks += [(figure, unix_s) for figure in figures]
        return True

    def _take_beside(self, line: dict[str, object]) -> bool:
        seconds, count, after = line.get("seconds"), line.get("count"), line.get("after_step")
        if not is_duration(seconds) or not is_step(count) or not is_step(after):
            return False
        self._beside.append(Beside(clean_name(str(line["beside"])), float(seconds), count, after))
        return True

    def _notes(self) -> tuple[str, ...]:
        """Say how many steps were told by another clock than the log's: rows of the device lack in them."""
        others = sum(count for clock, count in self._clocks.items() if clock != self._own_clock)
        if not others:
            return ()
        return (
            f"{plural(others, 'step')} on another clock than the log's ({self._own_clock}): the device was"
            " too far behind, and only their wall time is known.",
        )

    def _take_row(self, row: list[object]) -> bool:
        if len(row) < _FIXED_COLUMNS or len(row) > _FIXED_COLUMNS + len(self._names):
            return False
        step, unix_s, total_ms, *values = row
        if not is_step(step) or not is_duration(total_ms):
            return False
        times: dict[str, float] = {}
        for name, value in zip(self._names, values, strict=False):  # a row may be shorter than the names
            if value is None or _is_gap(name):
                continue
            if not is_duration(value):
                return False
            times[name] = times.get(name, 0.0) + value
        moment = float(unix_s) if is_duration(unix_s) else math.nan
        self._rows.add(step, total_ms, times, wall_known=True, unix_s=moment)
        self._count_clock(1)
        return True

    def _take_rows(self, text: bytes) -> bool:
        """Take in rows that are all as they should be; take nothing and return False where one is not."""
        table = number_rows(text, decimals=_DECIMALS)
        names = self._names
        if table is None or not _FIXED_COLUMNS <= table.shape[1] <= _FIXED_COLUMNS + len(names):
            return False
        step, unix_s, total_ms = table[:, :_FIXED_COLUMNS].T
        values = table[:, _FIXED_COLUMNS:].T
        measured = ~np.isnan(values)
        known = np.concatenate((total_ms, values[measured]))
        if len(set(names)) < len(names) or not (known < LONGEST_MS).all() or not (step < LARGEST_STEP).all():
            return False
        columns = zip(names, values, np.asarray(measured.any(axis=1)), strict=False)
        self._rows.add_many(
            step.astype(np.int64),
            total_ms,
            {name: times for name, times, any_known in columns if any_known and not _is_gap(name)},
            wall_known=np.ones(len(table), dtype=np.bool_),
            unix_s=unix_s,
        )
        self._count_clock(len(table))
        return True

    def _count_clock(self, steps: int) -> None:
        self._clocks[self._clock] = self._clocks.get(self._clock, 0) + steps


def _is_gap(name: str) -> bool:
    """Return whether a row is what the log calls unaccounted, which is always worked out again."""
    return name.partition("/")[0] == UNACCOUNTED


def _is_object(line: bytes) -> bool:
    return line.startswith(b"{")


def _parse(line: bytes) -> object:
    """Return a decoded line, or None where it is damaged."""
    try:
        return json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _schema(line: object) -> str:
    schema = line.get("schema") if isinstance(line, dict) else None
    return schema if isinstance(schema, str) else ""
