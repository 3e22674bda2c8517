"""Steps from which on a series has another level, found so that stalls and slow drifts pass for none.

The series is cut into blocks; their medians are split into the stretches that keep closest to a level each
(optimal partitioning, Jackson and others 2005, the exact form of what PELT searches), at a price for every
stretch that grows with the noise. The noise is taken from differences of neighbouring means at several
lengths, so that noise that lingers is not taken for a new level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from deblurkit.analysis.partition import top_level
from deblurkit.analysis.series import Change, Floats, as_floats, spread_of, trend
from deblurkit.timing.records import UNACCOUNTED

LEAST_CHANGE = 0.05  # of the level; between the 3 % and the 8 % that count as moderate and material
_FEWEST = 40
_MOST_BLOCKS = 500
_SHORTEST_BLOCK = 5
_BLOCKS_APART = 4  # the shortest stretch
_BLOCKS_NEAR = 6  # on either side of a change, to tell whether it came at once
_PRICE = 12.0  # of a stretch, times the variance of the noise and the logarithm of the number of blocks
_SIGNIFICANT = 5.0  # standard deviations between two levels
_AT_ONCE = 0.5  # of a change; what comes bit by bit is a drift
_MEDIAN_TO_MEAN = 1.2533  # how much more a median of normal values varies than their mean


def change_points(values: Floats) -> list[int]:
    """Return the places in ``values`` at which another level begins, in their order.

    A level differs from its neighbours by 5 % and by five standard deviations of the noise at least, and
    most of that comes at once. A series that a straight line describes better has no levels. Silent with
    fewer than 40 values.
    """
    if len(values) < _FEWEST:
        return []
    size = max(_SHORTEST_BLOCK, math.ceil(len(values) / _MOST_BLOCKS))
    count = len(values) // size
    medians = np.median(values[: count * size].reshape(count, size), axis=1)
    noise = max(lingering_noise(medians), 1e-4 * abs(float(np.median(medians))), 1e-12)
    price = _PRICE * noise**2 * math.log(count)
    ends = _merged(medians, _partition(medians, price), noise)
    if not ends or _line_is_better(medians, ends, price):
        return []
    return _refined(values, [end * size for end in ends], size)


def changes(step_ms: pd.Series[float], numbers: pd.Series[int], times: pd.DataFrame) -> tuple[Change, ...]:
    """Return the changes of the length of a step.

    Args:
        step_ms: length of each step.
        numbers: what the log calls them.
        times: of the same steps, repaired; to tell which row changed.
    """
    places = change_points(as_floats(step_ms))
    bounds = [0, *places, len(step_ms)]
    phases = with_rest(times, step_ms) if places else times
    found = []
    for start, place, end in zip(bounds, places, bounds[2:], strict=False):
        before, after = float(step_ms.iloc[start:place].median()), float(step_ms.iloc[place:end].median())
        shift = phases.iloc[place:end].median() - phases.iloc[start:place].median()
        row = _explains(shift, after - before)
        found.append(Change(int(numbers.iloc[place]), before, after, row))
    return tuple(found)


def with_rest(times: pd.DataFrame, step_ms: pd.Series[float]) -> pd.DataFrame:
    """Return the phases of each step and what they leave of it as ``unaccounted``, in milliseconds."""
    phases = top_level(times).fillna(0.0)
    return phases.assign(**{UNACCOUNTED: (step_ms - phases.sum(axis=1)).clip(lower=0.0)})


def lingering_noise(medians: Floats) -> float:
    """Return the standard deviation of one of a series, by what stretches of up to a sixteenth of it differ.

    Differences of neighbouring means of 1, 2, 4 ... values, each scaled to one value; the largest counts.
    Their median absolute deviation does not see the few differences across a change of level.
    """
    found = [0.0]
    length = 1
    while len(medians) // length >= 16 or length == 1:
        count = len(medians) // length
        means = medians[: count * length].reshape(count, length).mean(axis=1)
        found.append(spread_of(np.diff(means)) / math.sqrt(2) * math.sqrt(length))
        length *= 2
    return max(found)


def _explains(shift: pd.Series[float], change: float) -> str:
    """Return the row that makes up half of a change or more; empty where none does."""
    share = shift / change if change else shift
    return str(share.idxmax()) if len(share) and float(share.max()) >= 0.5 else ""


def _partition(medians: Floats, price: float) -> list[int]:
    """Return where stretches end, the last one's end left out, so that squares and prices add up to least."""
    size = len(medians)
    centred = medians - medians.mean()
    sums = np.concatenate(([0.0], np.cumsum(centred)))
    squares = np.concatenate(([0.0], np.cumsum(centred**2)))
    best, last = np.full(size + 1, np.inf), np.zeros(size + 1, dtype=int)
    best[0] = -price
    for end in range(_BLOCKS_APART, size + 1):
        starts = np.arange(end - _BLOCKS_APART + 1)
        lengths = end - starts
        costs = squares[end] - squares[starts] - (sums[end] - sums[starts]) ** 2 / lengths
        totals = best[starts] + costs + price
        last[end] = int(np.argmin(totals))
        best[end] = totals[last[end]]
    ends = []
    while (size := last[size]) > 0:
        ends.append(int(size))
    return ends[::-1]


def _merged(medians: Floats, ends: Sequence[int], noise: float) -> list[int]:
    """Return the ends without those whose two levels are too close, the closest ones dropped first."""
    kept = list(ends)
    while kept:
        bounds = [0, *kept, len(medians)]
        parts = [medians[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
        weak = [_closeness(left, right, noise) for left, right in zip(parts, parts[1:], strict=False)]
        worst = int(np.argmin(weak))
        if weak[worst] >= 1:
            break
        del kept[worst]
    return kept


def _closeness(left: Floats, right: Floats, noise: float) -> float:
    """Return how far two levels are apart, 1 being just enough to tell them."""
    before, after = float(np.median(left)), float(np.median(right))
    gap = abs(after - before)
    error = _MEDIAN_TO_MEAN * noise * math.sqrt(1 / len(left) + 1 / len(right))
    jump = abs(float(np.median(right[:_BLOCKS_NEAR]) - np.median(left[-_BLOCKS_NEAR:])))
    return min(
        gap / (LEAST_CHANGE * max(abs(before), 1e-12)),
        gap / (_SIGNIFICANT * error),
        jump / (_AT_ONCE * gap) if gap > 0 else 0.0,
    )


def _line_is_better(medians: Floats, ends: Sequence[int], price: float) -> bool:
    """Return whether one straight line keeps as close to a series as its levels do, for what they cost."""
    places = np.arange(len(medians), dtype="float64")
    slope = trend(medians, places)
    if slope is None:
        return False
    rest = medians - slope.per_1000_steps / 1000 * places
    bounds = [0, *ends, len(medians)]
    levels = sum(float(((part - part.mean()) ** 2).sum()) for part in np.split(medians, bounds[1:-1]))
    return float(((rest - np.median(rest)) ** 2).sum()) <= levels + (len(ends) - 1) * price


def _refined(values: Floats, places: Sequence[int], size: int) -> list[int]:
    """Return the places moved, by two blocks at most, to where the single values change sides."""
    refined = []
    bounds = [0, *places, len(values)]
    for before, place, after in zip(bounds, places, bounds[2:], strict=False):
        low, high = np.median(values[before:place]), np.median(values[place:after])
        start = max(before + 1, place - 2 * size)
        window = values[start : min(after, place + 2 * size)]
        gap = abs(high - low)
        nearer = np.clip(np.abs(window - low), 0, gap) - np.clip(np.abs(window - high), 0, gap)
        # the sum of what it costs to call all before a place old and all from it on new
        refined.append(start + int(np.argmin(np.concatenate(([0.0], np.cumsum(nearer))))))
    return refined
