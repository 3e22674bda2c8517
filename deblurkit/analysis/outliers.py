"""Steps far off the others, and whether they come at regular distances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from deblurkit.analysis.changes import with_rest
from deblurkit.analysis.series import Floats, Outlier, as_floats, spread_of

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MOST = 100
_TIMES_THE_LEVEL = 2.0  # the tail that is looked at elsewhere begins at twice the median, too
_DEVIATIONS = 8.0
_FEWEST = 20
_FEWEST_REPEATS = 4
_ON_TIME = 0.8  # of the steps that have to keep to a period


def outliers(
    step_ms: pd.Series[float], numbers: pd.Series[int], times: pd.DataFrame, starts: Sequence[int] = ()
) -> tuple[Outlier, ...]:
    """Return up to 100 steps that took twice as long as those around them, the longest first.

    Args:
        step_ms: length of each step.
        numbers: what the log calls them.
        times: of the same steps, repaired; to tell which row grew.
        starts: places at which another level begins; each step is held against its own level.

    They stand out by eight deviations of their level, too. Silent with fewer than 20 steps.
    """
    if len(step_ms) < _FEWEST:
        return ()
    bounds = [0, *starts, len(step_ms)]
    found = [
        outlier
        for start, end in zip(bounds, bounds[1:], strict=False)
        for outlier in _of_level(step_ms[start:end], numbers[start:end], times[start:end])
    ]
    return tuple(sorted(found, key=lambda outlier: -outlier.ms)[:MOST])


def _of_level(step_ms: pd.Series[float], numbers: pd.Series[int], times: pd.DataFrame) -> Iterator[Outlier]:
    values = as_floats(step_ms)
    places = np.flatnonzero(_far_off(values))
    if not len(places):
        return
    longest = places[np.argsort(-values[places], kind="stable")][:MOST]
    phases = with_rest(times, step_ms)
    grown = phases.iloc[longest] - phases.median()
    rows, excess = grown.idxmax(axis=1), grown.max(axis=1)
    for at, place in enumerate(longest):
        yield Outlier(
            int(numbers.iloc[place]), float(values[place]), str(rows.iloc[at]), float(excess.iloc[at])
        )


def period_of(numbers: Sequence[int]) -> int | None:
    """Return the distance at which most of some steps follow each other; None where they keep to none.

    Four steps are needed, and four in five of them have to lie on multiples of one distance, give or take
    one step in a hundred of it; four in five of the multiples between the first and the last have to be
    among the steps.
    """
    steps = np.unique(np.asarray(numbers, dtype=np.int64))
    steps = steps[np.diff(steps, prepend=-2) > 1]  # of neighbours the first
    if len(steps) < _FEWEST_REPEATS:
        return None
    gaps, counts = np.unique(np.diff(steps), return_counts=True)
    for gap in gaps[np.argsort(-counts, kind="stable")][:5]:
        leeway = max(1, int(gap) // 100)
        found = _fitted(steps, int(gap), leeway) if gap > 4 * leeway else None
        if found is not None:
            return found
    return None


def _far_off(values: Floats) -> Bools:
    level = np.median(values) if len(values) else 0.0
    return (values > _TIMES_THE_LEVEL * level) & (values > level + _DEVIATIONS * spread_of(values))


def _fitted(steps: Ints, gap: int, leeway: int) -> int | None:
    """Return the distance of steps that most lie on multiples of about ``gap``; None where they do not."""
    for first in steps[:_FEWEST_REPEATS]:
        places = np.rint((steps - first) / gap)
        on_time = np.abs(steps - first - places * gap) <= leeway
        met = np.unique(places[on_time])
        if on_time.mean() >= _ON_TIME and len(met) >= max(_FEWEST_REPEATS, _ON_TIME * (np.ptp(met) + 1)):
            kept, at = steps[on_time], places[on_time]
            return round(float((kept[-1] - kept[0]) / (at[-1] - at[0])))
    return None
