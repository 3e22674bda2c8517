"""Whether the loss goes where it should: divergence, numbers that are none, and a plateau."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deblurkit.analysis.changes import lingering_noise
from deblurkit.analysis.courses import Course, course, course_of, level
from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.findings import Measured
from deblurkit.analysis.series import Floats, trend
from deblurkit.units import format_share, plural

_FEWEST = 150  # losses from which a level can be told from noise
_SHORTEST_BLOCK = 10
_MOST_BLOCKS = 60
_STAYS = 3  # blocks
_MOSTLY_UP = 0.5  # of the way up to the last level: what "stays" is
_DEVIATIONS = 6.0
_WINDOW = 7
_ON_THE_WAY = 0.25
_LAST_VALUES = 3
_FEWEST_NOT_FINITE = 3
_LONG_RUN = 20_000  # steps; a shorter run has not had the time to learn
_LITTLE_PROGRESS = 0.05  # of the loss over a third of the run, at the best end of the interval
_DECAYED = 0.5  # of the highest rate


@dataclass(frozen=True)
class Blowup:
    """A loss that left its best level for good: how many times as high it ends, and where it left."""

    factor: float
    best: float
    last: float
    place: int
    course: Course


def diverging_loss(evidence: Evidence) -> Measured | None:
    """Measure how many times its best level the loss ends at, where it rose and stayed; infinite for NaN."""
    lost = _not_finite_to_the_end(evidence)
    if lost is not None:
        return lost
    blowup = blowup_of(evidence)
    if blowup is None:
        return None
    step = blowup.course.step(blowup.place)
    rate = rate_at(evidence, step)
    at = f" The learning rate was {rate:.3g}." if rate is not None else ""
    where = f"from step {step:,} on" if step is not None else f"from report {blowup.place + 1:,} on"
    text = (
        f"The loss rises {where} and stays up: {blowup.last:.4g} at the end, {blowup.best:.4g} at its best,"
        f" over {plural(len(blowup.course), 'report')}.{at}"
    )
    return Measured(blowup.factor, text, steps=() if step is None else (step,))


def _not_finite_to_the_end(evidence: Evidence) -> Measured | None:
    """Return the first step from which on no loss is a number, if that lasts to the end of the log."""
    frame = evidence.log.scalars.get("loss") if evidence.log is not None else None
    if frame is None or not len(frame):
        return None
    finite = np.isfinite(frame["value"].to_numpy(dtype="float64"))
    lost = len(finite) - (int(np.flatnonzero(finite)[-1]) + 1 if finite.any() else 0)
    if lost < min(_LAST_VALUES, len(finite)):
        return None
    first = course(frame.iloc[[len(finite) - lost]]).step(0)
    where = f"From step {first:,} on" if first is not None else f"In the last {lost:,} reports"
    text = f"{where} the loss is NaN or infinite, to the end of the log ({plural(lost, 'report')})."
    return Measured(math.inf, text, advice="nonfinite", steps=() if first is None else (first,))


def blowup_of(evidence: Evidence) -> Blowup | None:
    """Return how the loss left its best level for good; None where it did not, or too few are known."""
    losses = course_of(evidence, "loss")
    if losses is None or len(losses) < _FEWEST:
        return None
    levels = _smooth(losses.levels(shortest=_SHORTEST_BLOCK, most=_MOST_BLOCKS))
    lowest = int(np.argmin(levels))
    best, last = float(levels[lowest]), float(np.median(levels[-_STAYS:]))
    up = np.flatnonzero(levels <= best + _MOSTLY_UP * (last - best))[-1] + 1
    noise = max(lingering_noise(levels), 1e-12)
    if len(levels) - up < _STAYS or last - best < _DEVIATIONS * noise:
        return None
    return Blowup(_times(levels, best, last, lowest), best, last, _leaves(losses.values, best, last), losses)


def _times(levels: Floats, best: float, last: float, lowest: int) -> float:
    """Return how many times its best level a loss ends at.

    Losses below zero, such as a negated PSNR, have no such multiple: there 2 means that all progress is lost.
    """
    if best > 0:
        return last / best
    progress = float(levels[: lowest + 1].max()) - best
    return 1 + (last - best) / progress if progress > 0 else 1.0


def _leaves(values: Floats, best: float, last: float) -> int:
    """Return the place from which on a loss is a quarter of the way up from its best level, or more."""
    if best > 0 and values.min() > 0:
        values, best, last = np.log(values), math.log(best), math.log(last)
    window = np.median(np.lib.stride_tricks.sliding_window_view(values, _WINDOW), axis=1)
    low = np.flatnonzero(window <= best + _ON_THE_WAY * (last - best))
    return min(int(low[-1]) + _WINDOW // 2 + 1, len(values) - 1) if len(low) else 0


def nonfinite_steps(evidence: Evidence) -> Measured | None:
    """Measure the share of steps whose loss or gradient was NaN or infinite, where the run went on."""
    if _not_finite_to_the_end(evidence) is not None:
        return None
    steps = [event.step for event in evidence.events if event.kind == "nonfinite"]
    frame = evidence.log.scalars.get("loss") if evidence.log is not None else None
    if frame is not None:
        bad = frame[~np.isfinite(frame["value"].to_numpy(dtype="float64"))]
        steps += [int(step) if np.isfinite(step) else None for step in bad["step"]]
    known = sorted({step for step in steps if step is not None})
    count = max(len(known), steps.count(None))
    whole = max(evidence.num_steps, 0 if frame is None else len(frame))
    if count < _FEWEST_NOT_FINITE or not whole:
        return None
    named = f", the first one after step {known[0]:,}" if known else ""
    text = (
        f"{plural(count, 'step')} of {whole:,} ({format_share(count / whole)}) had a loss or gradients"
        f" that are NaN or infinite{named}; the run went on."
    )
    return Measured(count / whole, text, advice="nonfinite", steps=tuple(known))


def no_progress(evidence: Evidence) -> Measured | None:
    """Measure what share of the last third the loss stood still, 1 being all of it.

    Silent on runs of less than 20,000 steps, where the learning rate is unknown or has decayed, where the
    noise hides what progress there is, and where a validation still improves.
    """
    losses = course_of(evidence, "loss")
    if losses is None or len(losses) < _FEWEST or not losses.counts_steps:
        return None
    span = float(losses.positions[-1] - losses.positions[0])
    third = losses.part(int(np.searchsorted(losses.positions, losses.positions[-1] - span / 3)))
    line = trend(third.values, third.positions)
    if span < _LONG_RUN or line is None or len(third) < _FEWEST // 3 or not _rate_is_high(evidence, third):
        return None
    usual = abs(level(third.values))
    progress = -line.low / 1000 * span / 3 / usual if usual else math.inf
    if line.high < 0 or progress > _LITTLE_PROGRESS or _scores_improve(evidence, third):
        return None
    text = (
        f"Over the last {span / 3:,.0f} steps the loss stays at {level(third.values):.4g}: by the 95 %"
        f" interval of its trend it fell by {format_share(max(0.0, progress))} at most, while the learning"
        f" rate was still {rate_at(evidence, third.step(-1)) or 0:.3g}."
    )
    begin = third.step(0)
    return Measured(1.0, text, steps=() if begin is None else (begin,))


def _rate_is_high(evidence: Evidence, part: Course) -> bool:
    rates = course_of(evidence, "learning_rate")
    if rates is None or not rates.counts_steps:
        return False
    late = rates.values[rates.positions >= part.positions[0]]
    return len(late) > 0 and float(late.min()) >= _DECAYED * float(rates.values.max()) > 0


def _scores_improve(evidence: Evidence, part: Course) -> bool:
    """Return whether the best PSNR of the run lies in its last part."""
    scores = course_of(evidence, "psnr_db")
    if scores is None or len(scores) < 2 or not scores.counts_steps:
        return False
    return bool(scores.positions[int(np.argmax(scores.values))] >= part.positions[0])


def rate_at(evidence: Evidence, step: int | None) -> float | None:
    """Return the learning rate that the log tells of last before a step; None unknown."""
    rates = course_of(evidence, "learning_rate")
    if rates is None or step is None or not rates.counts_steps:
        return None
    return float(rates.values[max(0, int(np.searchsorted(rates.positions, step, side="right")) - 1)])


def _smooth(levels: Floats) -> Floats:
    """Return the median of each value and its two neighbours."""
    if len(levels) < 3:
        return levels
    padded = np.concatenate((levels[:1], levels, levels[-1:]))
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 3), axis=1)
