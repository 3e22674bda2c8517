"""The steps of a log whose length is known, in its order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblurkit.analysis.bins import Bins, bins
from deblurkit.analysis.report import Report
from deblurkit.analysis.run_axis import RunAxis, run_axis

_FEWEST = 2


@dataclass(frozen=True)
class Course:
    """Steps to draw.

    Attributes:
        step_ms: their lengths, with the index of ``RunLog.steps``.
        place: where each stands along the run.
        one, many: what one and several of them are: a step, or a line of the log that is the mean of several.
    """

    step_ms: pd.Series[float]
    place: RunAxis
    one: str
    many: str

    @property
    def each(self) -> str:
        """What is drawn where every one of them has a point of its own."""
        return f"Each {self.one}"

    def bins(self, points: int) -> Bins:
        """Return them as at most ``2 * points`` points."""
        return bins(len(self.step_ms), points)

    def size_of(self, drawn: Bins) -> str:
        """Return how many of them share a point."""
        sizes = drawn.lasts - drawn.firsts + 1
        low, high = int(sizes.min()), int(sizes.max())
        count = f"{low:,}" if low == high else f"{low:,} or {high:,}"
        return f"{count} {self.many}"


def course_of(report: Report) -> Course | None:
    """Return the steps of a log; None where fewer than two have a known length."""
    step_ms = report.partition.step_ms.dropna()
    if len(step_ms) < _FEWEST:
        return None
    rows = report.log.steps.loc[step_ms.index]
    counts = rows["count"].to_numpy(dtype=np.int64)
    place = run_axis(rows["step"].to_numpy(dtype=np.int64), counts)
    words = ("line of the log", "lines of the log") if (counts > 1).any() else ("step", "steps")
    return Course(step_ms, place, *words)
