"""From the stamps of lines to the wall time of the steps between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_TICKS = 20  # an interval of fewer ticks of its clock is off by more than 5 %
_LONGEST_GAP = (
    5  # times the usual distance of two lines; beyond it a run went on elsewhere, or lines are lost
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class WallTime:
    """What the stamps say of the steps that each line stands for.

    Attributes:
        count: steps since the line before; the usual number where that cannot be known.
        step_ms: wall time of one of them; NaN where the stamps do not tell.
        interval_s: seconds since the line before; NaN unknown.
        follows: whether the line goes on where the one before it ended.
    """

    count: Ints
    step_ms: Floats
    interval_s: Floats
    follows: Bools

    @property
    def beside_s(self) -> Floats:
        """By how many seconds each interval exceeds its steps at their usual pace; NaN unknown."""
        known = self.step_ms[np.isfinite(self.step_ms)]
        usual_s = float(np.median(known)) / 1e3 if len(known) else np.nan
        return np.maximum(0.0, self.interval_s - usual_s * self.count)


def wall_time(
    steps: Ints, stamps_s: Floats, *, since_step: Ints, since_s: Floats, own: Bools, tick_s: float
) -> WallTime:
    """Return the wall time of steps from the stamps of the lines that tell of them.

    Intervals shorter than 20 ticks of the clock are pooled with their neighbours, and each gets the mean of
    its pool: a clock of whole seconds says nothing of a single short interval.

    Args:
        steps: number of the last step that each line tells of.
        stamps_s: when the line was written, in seconds; NaN unknown.
        since_step: number of the step before the line's first one; -1 unknown.
        since_s: when that step ended; NaN unknown.
        own: whether the time since then was spent on steps alone.
        tick_s: resolution of the stamps.
    """
    distance = np.where(since_step >= 0, steps - since_step, 0)
    usual = _usual(distance)
    follows = (distance > 0) & (distance <= _LONGEST_GAP * usual)
    count = np.where(follows, distance, np.clip(steps, 1, usual)).astype(np.int64)
    interval = stamps_s - since_s
    with np.errstate(invalid="ignore"):
        interval[~follows | ~(interval >= 0)] = np.nan
    pooled = _pooled(np.where(own, interval, np.nan), count, enough_s=_TICKS * tick_s)
    return WallTime(count=count, step_ms=1e3 * pooled, interval_s=interval, follows=follows)


def _usual(distance: Ints) -> int:
    ahead = distance[distance > 0]
    return max(1, int(np.median(ahead))) if len(ahead) else 1


def _pooled(interval_s: Floats, count: Ints, *, enough_s: float) -> Floats:
    """Return the seconds of a step in each interval, short ones averaged with those next to them."""
    result: Floats = interval_s / count
    with np.errstate(invalid="ignore"):
        short = interval_s < enough_s
    seconds, steps = interval_s[short], count[short]
    if len(seconds):
        begins_run = short & ~np.concatenate(([False], short[:-1]))
        pool = _pools(seconds, (np.cumsum(begins_run) - 1)[short], enough_s)
        means = np.bincount(pool, seconds) / np.bincount(pool, steps)
        result[short] = np.where(means > 0, means, np.nan)[pool]
    return result


def _pools(seconds: Floats, run: Ints, enough_s: float) -> Ints:
    """Return the pool of each interval: neighbours in one run that last about ``enough_s`` together."""
    passed = np.cumsum(seconds) - seconds
    begins = np.flatnonzero(np.diff(run, prepend=-1))
    passed -= passed[begins][run]
    pools_of_run = np.maximum(1, np.bincount(run, seconds) // enough_s)
    place = np.minimum(passed // enough_s, pools_of_run[run] - 1)
    changes = (np.diff(run, prepend=0) != 0) | (np.diff(place, prepend=0) != 0)
    numbers: Ints = np.cumsum(changes)
    return numbers
