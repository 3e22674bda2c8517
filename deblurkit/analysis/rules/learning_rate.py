"""Learning rates that cannot be meant: zero, too high at their peak or for good, or lost in a resume."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deblurkit.analysis.changes import lingering_noise
from deblurkit.analysis.courses import course_of, level
from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.findings import Measured
from deblurkit.analysis.rules.learning import blowup_of
from deblurkit.analysis.series import Floats, spread_of
from deblurkit.units import format_share, plural

_FEWEST_RATES = 20
_FEWEST_LOSSES = 300
_SHORTEST_BLOCK = 25
_MOST_BLOCKS = 240
_NEAR_PEAK = 2.0  # times the length of the warm-up
_SPIKE = 2.0  # times the level of the loss
_BACK = 1.25
_DEVIATIONS = 6.0


def rate_at_zero(evidence: Evidence) -> Measured | None:
    """Measure the share of the reports between the first and the last tenth whose learning rate is 0."""
    rates = course_of(evidence, "learning_rate")
    if rates is None or len(rates) < _FEWEST_RATES:
        return None
    inner = rates.part(len(rates) // 10, len(rates) - len(rates) // 10)
    share = float((inner.values <= 0).mean())
    first = rates.step(int(np.argmax(rates.values <= 0)))
    named = f", first at step {first:,}" if first is not None and share else ""
    text = f"The learning rate is 0 in {format_share(share)} of {plural(len(inner), 'report')}{named}."
    return Measured(share, text, advice="zero", steps=() if first is None else (first,))


def blows_up_at_peak(evidence: Evidence) -> Measured | None:
    """Measure how many times its best level a loss ends at that left it while the rate was rising or new."""
    blowup, rates = blowup_of(evidence), course_of(evidence, "learning_rate")
    if blowup is None or rates is None or not (rates.counts_steps and blowup.course.counts_steps):
        return None
    peak = float(rates.positions[int(np.argmax(rates.values))])
    left = float(blowup.course.positions[blowup.place])
    risen = rates.values[0] < 0.9 * rates.values.max()
    if not risen or left > _NEAR_PEAK * (peak - float(rates.positions[0])) + float(rates.positions[0]):
        return None
    step = round(left)
    text = (
        f"The loss leaves its best level at step {step:,}; the learning rate reached its highest value,"
        f" {rates.values.max():.3g}, at step {peak:,.0f}."
    )
    return Measured(blowup.factor, text, steps=(step,))


def rate_jumps_at_resume(evidence: Evidence) -> Measured | None:
    """Measure by what factor the learning rate differs before and after a resume; the largest of all."""
    frame = evidence.scalar("learning_rate")
    if frame is None:
        return None
    steps, values = frame["step"].to_numpy(dtype="float64"), frame["value"].to_numpy(dtype="float64")
    back = np.flatnonzero(np.diff(steps) < 0) + 1
    resumed = [event.step for event in evidence.events if event.kind == "resume" and event.step is not None]
    places = [*back, *(int(np.searchsorted(steps, step + 1)) for step in resumed if not len(back))]
    jumps = [(_factor(values, place), place) for place in places if 0 < place < len(values)]
    if not jumps:
        return None
    factor, place = max(jumps)
    step = int(steps[place]) if np.isfinite(steps[place]) else 0
    text = (
        f"The learning rate is {values[place - 1]:.3g} before the run is resumed at step {step:,} and"
        f" {values[place]:.3g} after it."
    )
    return Measured(factor, text, advice="resume", steps=(step,))


def _factor(values: Floats, place: int) -> float:
    low, high = sorted((float(values[place - 1]), float(values[place])))
    return high / low if low > 0 else 1.0


def loss_spikes(evidence: Evidence) -> Measured | None:
    """Measure how often the loss rose to twice its level and came back, after the first tenth of the run."""
    losses = course_of(evidence, "loss")
    if losses is None or len(losses) < _FEWEST_LOSSES or losses.values.min() <= 0:
        return None
    later = losses.part(len(losses) // 10)
    levels = later.levels(shortest=_SHORTEST_BLOCK, most=_MOST_BLOCKS)
    usual = level(levels)
    high = max(_SPIKE * usual, usual + _DEVIATIONS * max(spread_of(levels), lingering_noise(levels)))
    begins = _rises(levels, low=_BACK * usual, high=high)
    if levels[-1] > high or not len(begins):
        return None
    places = begins * len(later) // len(levels)
    steps = [step for place in places if (step := later.step(int(place))) is not None]
    named = f", near {'steps' if len(steps) > 1 else 'step'} {', '.join(f'{step:,}' for step in steps[:5])}"
    text = (
        f"{plural(len(begins), 'time')} the loss rose to more than twice its level of {usual:.4g} and came"
        f" back{named if steps else ''}."
    )
    return Measured(float(len(begins)), text, advice="spikes", steps=tuple(steps))


def _rises(levels: Floats, *, low: float, high: float) -> npt.NDArray[np.intp]:
    """Return the places at which a series exceeds ``high`` for the first time since it was below ``low``."""
    decided = np.flatnonzero((levels < low) | (levels > high))
    is_high = levels[decided] > high
    return decided[1:][is_high[1:] & ~is_high[:-1]]
