"""Memory that grows with the steps, and a cache that does not hold what is read."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblurkit.analysis.courses import Course, course_of, level
from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.findings import Measured
from deblurkit.analysis.series import Trend, block_medians, trend
from deblurkit.units import MIB, format_bytes, format_share, plural

_FEWEST_LOOKS = 12
_FILLING = 0.25  # of the run, in which caches and queues fill
_FLOOR_BYTES = 64 * MIB  # growth below it is the interpreter's own
_FLOOR_SHARE = 0.05  # of a machine's memory: others use it too
_TOLD = 0.06  # just above the warning, where the run itself has told of a leak and no more is known
_GROWS = (
    "process_memory_bytes",
    "process_memory_bytes/main",
    "process_memory_bytes/workers",
    "host_memory_share",
    "cuda_allocated_bytes",
    "cuda_reserved_bytes",
)
_ON_DEVICE = "cuda_"
_WORDS = {
    "process_memory_bytes": "memory of the process",
    "process_memory_bytes/main": "memory of the main process",
    "process_memory_bytes/workers": "memory of the loader workers",
    "host_memory_share": "memory of the machine in use",
    "cuda_allocated_bytes": "memory of tensors on the GPU",
    "cuda_reserved_bytes": "memory that PyTorch holds on the GPU",
}
_FEWEST_RATES = 3
_SETTLED = 0.02  # a hit rate that rises by less over its last third has come to rest


@dataclass(frozen=True)
class _Growth:
    """How a kind of memory grew: from ``first`` to ``last``, beginning at a place of its course."""

    name: str
    course: Course
    first: float
    last: float
    begin: int
    line: Trend

    @property
    def share(self) -> float:
        return (self.last - self.first) / self.first


def growing_memory(evidence: Evidence) -> Measured | None:
    """Measure by what share memory grew over the run, its first quarter left out; the kind that grew most.

    Silent unless the growth is significant over the whole, and goes on in the second half, or the run itself
    has told of a leak.
    """
    found = [growth for name in _GROWS if (growth := _growth(evidence, name)) is not None]
    if not found:
        return _told_of(evidence)
    most = max(found, key=lambda growth: growth.share)
    begin = most.course.step(most.begin)
    advice = "device" if most.name.startswith(_ON_DEVICE) else ""
    return Measured(most.share, _growth_text(most), advice=advice, steps=() if begin is None else (begin,))


def _told_of(evidence: Evidence) -> Measured | None:
    told = [event for event in evidence.events if event.kind == "leak"]
    if not told:
        return None
    steps = tuple(event.step for event in told if event.step is not None)
    text = told[0].text
    return Measured(_TOLD, f"The run itself has warned: {text}.", steps=steps)


def _growth(evidence: Evidence, name: str) -> _Growth | None:
    whole = course_of(evidence, name)
    if whole is None or len(whole) * (1 - _FILLING) < _FEWEST_LOOKS:
        return None
    later = whole.part(math.ceil(_FILLING * len(whole)))
    line, rest = trend(later.values, later.positions), later.part(len(later) // 2)
    second = trend(rest.values, rest.positions)
    if line is None or second is None or min(line.low, second.low) <= 0:
        return None
    ends = max(1, len(later) // 10)
    first, last = level(later.values[:ends]), level(later.values[-ends:])
    floor = _FLOOR_SHARE if name.endswith("_share") else _FLOOR_BYTES
    if last - first < floor or first <= 0:
        return None
    return _Growth(name, whole, first, last, _begin(whole), second)


def _begin(whole: Course) -> int:
    """Return the place at which growth sets in.

    Of all courses that rise while caches fill, then lie flat, then grow to the end along a line, the one
    that keeps closest to the values; but growth from the beginning, unless that is clearly worse.
    """
    middles, heights = block_medians(whole.positions, whole.values)
    misfits: dict[float, float] = {}
    for grows, filled in itertools.combinations_with_replacement(middles[-2::-1], 2):
        columns = (np.ones_like(middles), np.minimum(middles, filled), np.maximum(middles - grows, 0.0))
        slopes, *_ = np.linalg.lstsq(np.column_stack(columns), heights, rcond=None)
        misfit = float(((heights - np.column_stack(columns) @ slopes) ** 2).sum())
        if slopes[2] > 0:
            misfits[grows] = min(misfit, misfits.get(grows, math.inf))
    begin = min(misfits, key=lambda grows: misfits[grows], default=middles[0])
    as_close = 1 + 3 * math.log(len(middles)) / len(
        middles
    )  # by Schwarz's criterion, as two knots are chosen
    if misfits.get(middles[0], math.inf) <= as_close * misfits.get(begin, 0.0):
        return 0
    return int(np.searchsorted(whole.positions, begin))


def _growth_text(growth: _Growth) -> str:
    line, is_share = growth.line, growth.name.endswith("_share")
    told, more = (format_share, _points) if is_share else (format_bytes, format_bytes)
    unit = "1,000 steps" if growth.course.counts_steps else "1,000 looks"
    begin, end = growth.course.step(growth.begin), growth.course.step(-1)
    when = f" from step {begin:,} to step {end:,}" if begin is not None and end is not None else ""
    text = (
        f"The {_WORDS[growth.name]}: {told(growth.first)} after the first quarter of the log,"
        f" {told(growth.last)} at its end ({100 * growth.share:+.1f} %); {more(line.per_1000_steps)} more"
        f" every {unit} (95 % interval {more(line.low)} to {more(line.high)}){when}."
    )
    if not is_share:
        return text
    left = max(0.0, 1 - growth.last) / line.per_1000_steps * 1000
    noun = "step" if growth.course.counts_steps else "look"
    return f"{text} At this rate the machine is full after {plural(round(left), noun)} more."


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def missed_reads(evidence: Evidence) -> Measured | None:
    """Measure the share of reads that the cache does not answer, after the first pass over the data.

    Silent while the rate still rises: the first pass hits nothing, and a rate over the whole run forgets it
    slowly.
    """
    whole = course_of(evidence, "cache_hit_rate")
    if whole is None:
        return None
    later, known = _after_first_epoch(whole, evidence)
    if later is None or len(later) < _FEWEST_RATES:
        return None
    third = max(1, len(later) // 3)
    rate = level(later.values[-third:])
    if rate - level(later.values[-2 * third : -third]) > _SETTLED:
        return None
    when = "after the first epoch" if known else "in the last two thirds of the log"
    text = (
        f"{format_share(rate)} of the reads hit the cache in the last third of the log, over"
        f" {plural(len(later), 'report')} {when}; 75 % is usual, under 60 % a cache hardly helps."
    )
    wait = evidence.share("data") if evidence.wall_known and evidence.has("data") else None
    if wait is None:
        return Measured(1 - rate, text)
    return Measured(
        1 - rate, f"{text} {format_share(wait)} of a step waits for data.", evidence.ms_of_each("data")
    )


def _after_first_epoch(whole: Course, evidence: Evidence) -> tuple[Course | None, bool]:
    """Return the course after the first epoch and whether it is known when that ended.

    Where epochs are not known these are the last two thirds; where there was one only, it is None.
    """
    steps = _epochs(evidence)
    if len(steps) and whole.counts_steps:
        later = steps.loc[steps["epoch"] > steps["epoch"].min(), "step"]
        if not len(later):
            return None, True
        end = float(later.iloc[0])
        return whole.part(int(np.searchsorted(whole.positions, end))), True
    marks = [event.step for event in evidence.events if event.kind == "epoch" and event.step]
    if marks and whole.counts_steps:
        return whole.part(int(np.searchsorted(whole.positions, marks[0], side="right"))), True
    return whole.part(len(whole) // 3), False


def _epochs(evidence: Evidence) -> pd.DataFrame:
    """Return ``step`` and ``epoch`` of the steps whose epoch is known."""
    if evidence.log is None or "epoch" not in evidence.log.steps:
        return pd.DataFrame({"step": [], "epoch": []})
    return evidence.log.steps[["step", "epoch"]].dropna()
