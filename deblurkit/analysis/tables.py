"""What a log reader returns: one row per step, one column per name, and how far the log can be trusted."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

import pandas as pd

from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import Beside

MOST_NAMES = 5_000
_LONGEST_MS = 1e12
_LARGEST_STEP = 10**15


@dataclass(frozen=True)
class TimingLog:
    """One log as it was read, before any repair.

    Attributes:
        source: the file, as it was named.
        format: ``timing-text``, ``timing-text-seed`` (no header, no wall time), ``timing-summary`` (only
            the closing table was there) or ``timing-jsonl``.
        steps: one row per step in the order of the file; columns ``step`` (number), ``total_ms`` (what the
            log calls the total; NaN where it gave none) and ``wall_known`` (whether that total is the
            step's wall time, not a sum of rows).
        times: the same rows; one column per full name, inclusive milliseconds; NaN is "not measured in
            this step". ``parent/child`` lies inside ``parent``. Of a summary: one row, the means per step.
        num_steps: steps that the rows stand for; more than the rows only where a summary was read.
        samples_per_step: samples that all ranks took in one step, if the log says.
        damaged_lines: lines that should have been understood and were not.
        notes: what the reader has to say about the file, a sentence each.
        rank: the process that wrote it, if the log says.
        beside: what was done beside the steps.
    """

    source: str
    format: str
    steps: pd.DataFrame
    times: pd.DataFrame
    num_steps: int
    samples_per_step: int | None = None
    damaged_lines: int = 0
    notes: tuple[str, ...] = ()
    rank: int | None = None
    beside: tuple[Beside, ...] = ()

    @property
    def is_summary(self) -> bool:
        """Whether only means are known, no single step."""
        return self.format == "timing-summary"


class StepRows:
    """Gathers steps as they are read, 8 bytes a value, names in the order of their first appearance."""

    def __init__(self) -> None:
        self._numbers: array[int] = array("q")
        self._totals: array[float] = array("d")
        self._wall_known: array[int] = array("b")
        self._columns: dict[str, array[float]] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def last_step(self) -> int:
        """The number of the newest step; 0 before the first."""
        return self._numbers[-1] if self._numbers else 0

    def add(self, step: int, total_ms: float, values: Mapping[str, float], *, wall_known: bool) -> None:
        """Append one step; names it does not mention count as not measured.

        Raises:
            DeblurkitError: if the log has more names than any network has modules.
        """
        done = len(self._numbers)
        for name, value in values.items():
            column = self._columns.get(name)
            if column is None:
                column = self._new_column(name)
            if len(column) < done:
                column.extend([math.nan] * (done - len(column)))
            column.append(value)
        self._numbers.append(step)
        self._totals.append(total_ms)
        self._wall_known.append(wall_known)

    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return ``steps`` and ``times`` as ``TimingLog`` describes them."""
        done = len(self._numbers)
        for column in self._columns.values():
            column.extend([math.nan] * (done - len(column)))
        steps = pd.DataFrame(
            {
                "step": pd.Series(self._numbers.tolist(), dtype="int64"),
                "total_ms": pd.Series(self._totals.tolist(), dtype="float64"),
                "wall_known": pd.Series(self._wall_known.tolist(), dtype="bool"),
            }
        )
        columns = {
            name: pd.Series(column.tolist(), dtype="float64") for name, column in self._columns.items()
        }
        return steps, pd.DataFrame(columns, index=steps.index, dtype="float64")

    def _new_column(self, name: str) -> array[float]:
        if len(self._columns) >= MOST_NAMES:
            raise DeblurkitError(
                f"more than {MOST_NAMES:,} different row names, the last one {name[:60]!r}; expected the same"
                " few names in every step: keep what changes, such as step numbers or paths, out of the names"
            )
        column: array[float] = array("d")
        self._columns[name] = column
        return column


def is_duration(value: object) -> TypeGuard[float]:
    """Return whether ``value`` can be a measured time: a finite number of milliseconds, not negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value < _LONGEST_MS


def is_step(value: object) -> TypeGuard[int]:
    """Return whether ``value`` can be the number of a step."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_STEP
