"""Gathers what the lines of a log tell of steps and between them, and makes a ``RunLog`` of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from deblurkit.analysis.formats.event_list import BROKEN, OWN, EventList
from deblurkit.analysis.formats.line_columns import (
    MOST_NAMES,
    NO_NUMBERS,
    Column,
    FixedColumns,
    Floats,
    NamedColumns,
    Numbers,
)
from deblurkit.analysis.formats.log_figures import figures_of
from deblurkit.analysis.formats.scalar_frames import scalar_frames, with_total_loss
from deblurkit.analysis.formats.scalar_names import Names
from deblurkit.analysis.formats.timestamps import Stamps
from deblurkit.analysis.formats.wall_time import Bools, WallTime, wall_time
from deblurkit.analysis.tables import RunLog
from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import Beside
from deblurkit.units import plural

_LONGEST_S = 1e9
_LARGEST_STEP = 10**15
_COLUMNS = ("number", "unix_s", "clock_s", "epoch", "spent", "seconds", "data_s", "learning_rate")


class LineLog:
    """The state of a reader between two lines.

    A reader calls ``step`` for each line that tells of one step or several, ``other`` for every other line
    and ``damaged`` for those that it should have understood; then ``finish``.

    Args:
        source: what errors and the report call the log.
        form: stable id of the format.
        expected: what a line of it looks like, for the error where there is none.

    Attributes:
        stamps: reads the time of a line.
        names: finds the numbers in a line.
        events: what happened.
        last_step: number of the newest step; 0 before the first.
        rank: that wrote the log, if it says.
        world_size, samples_per_step: if it says.
        notes: for ``RunLog``.
        beside: for ``RunLog``.
        tick_s: resolution of the clock that tells the length of steps; None: as the stamps show it.
    """

    def __init__(self, source: str, form: str, *, expected: str) -> None:
        self.stamps = Stamps()
        self.names = Names()
        self.events = EventList()
        self.last_step = 0
        self.rank: int | None = None
        self.world_size: int | None = None
        self.samples_per_step: int | None = None
        self.notes: list[str] = []
        self.beside: list[Beside] = []
        self.tick_s: float | None = None
        self._source, self._form, self._expected = source, form, expected
        self._rows = 0
        self._last_epoch = math.inf
        self._lines = FixedColumns(len(_COLUMNS))
        self._numbers, self._phases = NamedColumns(), NamedColumns()
        self._between: dict[str, list[tuple[float, float, float, float]]] = {}
        self._marks: dict[int, tuple[int, float]] = {}
        self._samples_per_gpu: int | None = None
        self._damaged = 0
        self._was_nonfinite = False

    def __len__(self) -> int:
        return self._rows

    def step(
        self,
        number: int,
        *,
        line: bytes,
        unix_s: float = math.nan,
        elapsed_s: float | None = None,
        epoch: float = math.nan,
        seconds: float = math.nan,
        data_s: float = math.nan,
        learning_rate: float = math.nan,
        numbers: Numbers = NO_NUMBERS,
        phases: Numbers = NO_NUMBERS,
    ) -> None:
        """Take in a line that tells of the steps up to ``number``.

        Args:
            number: of the last of them.
            line: itself.
            unix_s: its stamp.
            elapsed_s: seconds on another clock; the length of steps is taken from it instead of the stamps.
            epoch: that the steps belong to.
            seconds: of one step, as printed.
            data_s: that one step waits for data, as printed.
            learning_rate: of the step.
            numbers: others, under the names of ``RunLog.scalars``.
            phases: milliseconds of a step by full name.
        """
        if not 0 <= number < _LARGEST_STEP:
            self.damaged()
            return
        if self._rows and number <= self.last_step:
            self.events.add("resume", line, step=self.last_step, unix_s=unix_s)
        spent = self.events.end_interval(self.last_step)
        if epoch > self._last_epoch:
            self.events.add("epoch", line, step=self.last_step, unix_s=unix_s, is_pause=False)
        clock_s = unix_s if elapsed_s is None else elapsed_s
        self._lines.add((number, unix_s, clock_s, epoch, spent, seconds, data_s, learning_rate))
        if numbers[0]:
            self._numbers.add(self._rows, numbers)
            if self._was_nonfinite or not math.isfinite(sum(numbers[1])):
                self._look_for_nonfinite(numbers, line, unix_s, number)
        if phases[0]:
            self._phases.add(self._rows, phases)
        self._rows += 1
        self.last_step, self._last_epoch = number, epoch if epoch == epoch else math.inf

    def mark(self, number: int, *, elapsed_s: float) -> None:
        """Begin the interval of the next steps here: after step ``number``, at ``elapsed_s``."""
        self._marks[self._rows] = (number, elapsed_s)
        self.events.forget_interval(self.last_step)

    def other(self, line: bytes) -> None:
        """Take in a line that tells of no step: what happened, scores, memory."""
        if line:
            self.events.take(line, step=self.last_step if self._rows else None, stamps=self.stamps)
            for figure in figures_of(line):
                self._take_figure(figure.name, figure.value, figure.step, line)

    def event(self, kind: str, line: bytes, *, seconds: float | None = None) -> None:
        """Take in what a line tells of, once between two steps."""
        step = self.last_step if self._rows else None
        self.events.add(kind, line, step=step, unix_s=self.stamps.find(line), seconds=seconds)

    def scalar(self, name: str, value: float, *, line: bytes, step: int | None = None) -> None:
        """Take in a number that a line tells, of the last step by default."""
        number = step if step is not None else self.last_step if self._rows else math.nan
        if name in self._between or len(self._between) < MOST_NAMES:
            told = (self._rows - 0.5, float(number), self.stamps.find(line), value)
            self._between.setdefault(name, []).append(told)

    def damaged(self) -> None:
        """Count a line that should have been understood."""
        self._damaged += 1

    def finish(self) -> RunLog:
        """Return what was gathered.

        Raises:
            DeblurkitError: if there is nothing in it.
        """
        self.events.end_traceback(self.last_step if self._rows else None)
        if not self._rows and not self._between and not self.events:
            raise DeblurkitError(
                f"{self._source}: no step in it: expected lines like `{self._expected}`;"
                f" {plural(self._damaged, 'line')} could not be read; let the run print a step, or check that"
                " the file was copied whole"
            )
        columns = dict(zip(_COLUMNS, self._lines.arrays(), strict=True))
        columns["seconds"], columns["data_s"] = _sane(columns["seconds"]), _sane(columns["data_s"])
        wall = self._wall_time(columns)
        steps = _steps(columns, wall)
        scalars, about_loss = with_total_loss(self._scalars(columns))
        return RunLog(
            source=self._source,
            format=self._form,
            steps=steps,
            times=self._times(columns, is_known=steps["total_ms"].notna().to_numpy()),
            num_steps=int(wall.count.sum()),
            samples_per_step=self._all_samples(),
            damaged_lines=self._damaged,
            notes=(*self.notes, *filter(None, [about_loss]), *self._own_notes(columns, wall)),
            rank=self.rank,
            beside=tuple(self.beside),
            scalars=scalars,
            events=self.events.finished(wall, _is_own(columns)),
            world_size=self.world_size,
        )

    def _look_for_nonfinite(self, numbers: Numbers, line: bytes, unix_s: float, step: int) -> None:
        """Note the first line of those in a row in which a loss is NaN or infinite."""
        pairs = zip(*numbers, strict=True)
        is_nonfinite = any(name.startswith("loss") and not math.isfinite(value) for name, value in pairs)
        if is_nonfinite and not self._was_nonfinite:
            self.events.add("nonfinite", line, step=step, unix_s=unix_s, is_pause=False)
        self._was_nonfinite = is_nonfinite

    def _take_figure(self, name: str, value: float, step: int | None, line: bytes) -> None:
        if name == "world_size":
            self.world_size = int(value)
        elif name == "samples_per_step":
            self.samples_per_step = int(value)
        elif name == "samples_per_gpu":
            self._samples_per_gpu = int(value)
        else:
            self.scalar(name, value, line=line, step=step)

    def _wall_time(self, columns: dict[str, Floats]) -> WallTime:
        numbers, clock_s = columns["number"].astype(np.int64), columns["clock_s"]
        since_step = np.concatenate(([-1], numbers))[:-1]
        since_s = np.concatenate(([np.nan], clock_s))[:-1]
        for row, (number, elapsed_s) in self._marks.items():
            if row < len(numbers):
                since_step[row], since_s[row] = number, elapsed_s
        return wall_time(
            numbers,
            clock_s,
            since_step=since_step,
            since_s=since_s,
            own=_is_own(columns),
            tick_s=self.tick_s or (1e-3 if self.stamps.fractions_seen else 1.0),
        )

    def _times(self, columns: dict[str, Floats], *, is_known: Bools) -> pd.DataFrame:
        """Return the phases, or data and the rest of the printed time, where a step's length is known."""
        times: dict[str, Floats] = {}
        for name, (rows, values) in self._phases.columns().items():
            times[name] = np.full(self._rows, np.nan)
            times[name][rows] = values
        if not times and np.isfinite(columns["data_s"]).any() and is_known.any():
            times["data"] = 1e3 * columns["data_s"]
            if np.isfinite(columns["seconds"]).any():
                times["compute"] = 1e3 * np.maximum(0.0, columns["seconds"] - columns["data_s"])
        known = {name: np.where(is_known, values, np.nan) for name, values in times.items()}
        return pd.DataFrame(known, index=pd.RangeIndex(self._rows), dtype="float64")

    def _scalars(self, columns: dict[str, Floats]) -> dict[str, pd.DataFrame]:
        fixed = {
            "printed_ms": 1e3 * columns["seconds"],
            "data_ms": 1e3 * columns["data_s"],
            "learning_rate": columns["learning_rate"],
        }
        told = {name: _column(values) for name, values in fixed.items() if np.isfinite(values).any()}
        step, unix_s = columns["number"], columns["unix_s"]
        return scalar_frames({**self._numbers.columns(), **told}, self._between, step=step, unix_s=unix_s)

    def _all_samples(self) -> int | None:
        if self.samples_per_step is None and self._samples_per_gpu and self.world_size:
            return self._samples_per_gpu * self.world_size
        return self.samples_per_step

    def _own_notes(self, columns: dict[str, Floats], wall: WallTime) -> Iterator[str]:
        knows_wall = np.isfinite(wall.step_ms).any()
        aside = int((~_is_own(columns) & wall.follows).sum())
        if knows_wall and (columns["spent"][_is_own(columns)] != OWN).any():
            yield "Every interval holds a validation, a checkpoint or an epoch's end, and steps include it."
        if aside and knows_wall:
            yield (
                f"{plural(aside, 'interval')} between two lines held a validation, a checkpoint or a break,"
                " and count as no step."
            )
        if knows_wall and not self.stamps.fractions_seen and self.tick_s is None:
            yield "Its clock tells whole seconds: short intervals are averaged over some 20 s."
        if self.stamps.lacks_date:
            yield "Its stamps have no year or no date: lengths of time are right, dates are not."
        if self._numbers.has_left_out:
            yield f"Of the names of numbers only the first {MOST_NAMES} are kept."
        yield from self.events.notes()


def _steps(columns: dict[str, Floats], wall: WallTime) -> pd.DataFrame:
    known = np.isfinite(wall.step_ms)
    return pd.DataFrame(
        {
            "step": columns["number"].astype(np.int64),
            "total_ms": wall.step_ms if known.any() else 1e3 * columns["seconds"],
            "wall_known": known,
            "unix_s": columns["unix_s"],
            "count": wall.count,
            "epoch": columns["epoch"],
        }
    )


def _column(values: Floats) -> Column:
    rows = np.flatnonzero(~np.isnan(values))
    return Column(rows, values[rows])


def _is_own(columns: dict[str, Floats]) -> Bools:
    """Return which intervals count as spent on steps: those without pauses, or all where each has one."""
    own: Bools = columns["spent"] == OWN
    return own if own[1:].any() else columns["spent"] != BROKEN


def _sane(seconds: Floats) -> Floats:
    return np.where((seconds >= 0) & (seconds < _LONGEST_S), seconds, np.nan)
