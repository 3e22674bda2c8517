"""What a series over the run does: its trend, and the classes that tell where it changes and stands out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

_MOST_BLOCKS = 48
_FEWEST = 8
_NORMAL = 1.959964  # 97.5 % quantile of the normal distribution
_MAD_TO_SD = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class Trend:
    """A line through a series.

    Attributes:
        per_1000_steps: slope, in the unit of the series.
        low, high: 95 % interval of the slope.
        share: how far the line rises over the whole series, as a share of its mean.
    """

    per_1000_steps: float
    low: float
    high: float
    share: float

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves no doubt about the direction."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Change:
    """A step from which on the level of a series is another one.

    Attributes:
        step: the first one of the new level.
        before, after: medians of the two levels, in the unit of the series.
        row: the row of the log that explains most of it; empty where none does.
    """

    step: int
    before: float
    after: float
    row: str = ""


@dataclass(frozen=True)
class Outlier:
    """A step far off the others.

    Attributes:
        step: its number.
        ms: its length.
        row: the phase that grew most, ``unaccounted`` where none did.
        excess_ms: by how much that phase exceeds its median, of the steps at the same level.
    """

    step: int
    ms: float
    row: str
    excess_ms: float


def as_floats(values: pd.Series[Any]) -> Floats:
    """Return a column as an array of doubles."""
    return np.asarray(values, dtype=np.float64)


def trend(values: Floats, positions: Floats) -> Trend | None:
    """Return a line through a series that single values do not bend; None with fewer than 8 values.

    The slope is the median of the slopes between the medians of up to 48 blocks (Theil 1950, Sen 1968). Its
    interval is Sen's, by the variance of Kendall's S; that is widened where neighbouring blocks are alike,
    as an AR(1) series would need (Hamed and Rao 1998, "A modified Mann-Kendall trend test").

    Args:
        values: finite.
        positions: of each value, in steps of the run, rising.
    """
    if len(values) < _FEWEST:
        return None
    middles, heights = block_medians(positions, values)
    first, second = np.triu_indices(len(heights), 1)
    runs = middles[second] - middles[first]
    apart = runs > 0
    slopes = np.sort((heights[second] - heights[first])[apart] / runs[apart])
    if not len(slopes):
        return None
    slope = float(np.median(slopes))
    low, high = _sen_bounds(slopes, heights - slope * middles)
    level = abs(float(values.mean()))
    rise = slope * float(positions[-1] - positions[0])
    return Trend(1000 * slope, 1000 * low, 1000 * high, rise / level if level > 0 else 0.0)


def block_medians(positions: Floats, values: Floats, *, most: int = _MOST_BLOCKS) -> tuple[Floats, Floats]:
    """Return the mean position and the median of each of up to ``most`` blocks of neighbouring values."""
    ends = np.linspace(0, len(values), min(most, len(values)) + 1).astype(int)
    parts = list(zip(ends, ends[1:], strict=False))
    middles = np.array([positions[a:b].mean() for a, b in parts])
    return middles, np.array([np.median(values[a:b]) for a, b in parts])


def spread_of(values: Floats) -> float:
    """Return the standard deviation that the median absolute deviation stands for; outliers hardly count."""
    return _MAD_TO_SD * float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


def _sen_bounds(slopes: Floats, residuals: Floats) -> tuple[float, float]:
    """Return the slopes between which 95 % of the truth lies, given the sorted slopes of all pairs."""
    size = len(residuals)
    variance = size * (size - 1) * (2 * size + 5) / 18 * _alike(residuals)
    reach = _NORMAL * math.sqrt(variance) / 2
    middle = (len(slopes) - 1) / 2
    low, high = max(0, math.floor(middle - reach)), min(len(slopes) - 1, math.ceil(middle + reach))
    return float(slopes[low]), float(slopes[high])


def _alike(residuals: Floats) -> float:
    """Return by what factor residuals that follow each other raise the variance of a trend; 1 at least."""
    deviations = _ranks(residuals)
    deviations -= deviations.mean()
    power = float(deviations @ deviations)
    if power <= 0:
        return 1.0
    lag = float(deviations[1:] @ deviations[:-1]) / power
    lag = min(lag + (1 + 4 * lag) / len(residuals), 0.95)  # an estimate from few values is too low
    return max(1.0, (1 + lag) / (1 - lag))


def _ranks(values: Floats) -> Floats:
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks
