"""A number beside the steps as a course over the run: where it stands when, and its smoothed level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.series import Floats, block_medians

_MOST_BEFORE = 10  # one value in so many may come before the first step


@dataclass(frozen=True)
class Course:
    """A number beside the steps over the run.

    Attributes:
        positions: of each value, rising; in steps where ``counts_steps``, else the values' own places.
        values: finite.
        steps: numbers of the steps as the log tells them; NaN unknown.
        counts_steps: whether positions are steps.
    """

    positions: Floats
    values: Floats
    steps: Floats
    counts_steps: bool

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, end: int | None = None) -> Course:
        """Return the values from place ``start`` on, up to ``end``."""
        cut = slice(start, end)
        return Course(self.positions[cut], self.values[cut], self.steps[cut], self.counts_steps)

    def step(self, place: int) -> int | None:
        """Return the number of the step of the value at ``place``; None unknown."""
        return int(self.steps[place]) if np.isfinite(self.steps[place]) else None

    def levels(self, *, shortest: int, most: int) -> Floats:
        """Return the medians of neighbouring blocks of at least ``shortest`` values, at most ``most``."""
        return block_medians(self.positions, self.values, most=max(1, min(most, len(self) // shortest)))[1]


def course_of(evidence: Evidence, name: str) -> Course | None:
    """Return a number beside the steps as a course; None where the log has no finite value of it."""
    frame = evidence.scalar(name)
    return None if frame is None else course(frame)


def course(frame: pd.DataFrame) -> Course:
    """Return a frame of ``step`` and ``value`` as a course.

    Places count where steps are unknown or go back. A few values that come before the first step, as the
    memory of a program that has just started, are left out.
    """
    before = int(frame["step"].notna().to_numpy().argmax())
    if 0 < _MOST_BEFORE * before <= len(frame):
        frame = frame.iloc[before:]
    steps = frame["step"].to_numpy(dtype="float64")
    values = frame["value"].to_numpy(dtype="float64")
    rising = bool(np.isfinite(steps).all() and (np.diff(steps) >= 0).all())
    positions = steps if rising else np.arange(len(values), dtype="float64")
    return Course(positions, values, steps, rising)


def level(values: Floats) -> float:
    """Return the median."""
    return float(np.median(values))
