"""What a recommendation promises: to `train`, with its configuration, and to a check of the gain."""

from __future__ import annotations

import math
from typing import Any

from deblurkit.config.schema import as_values
from deblurkit.tuning.recommend.records import Recommendation, Row
from deblurkit.tuning.recommend.words import recommended_config

_DIGITS = 6  # of a promised figure


def promised_values(found: Recommendation) -> dict[str, Any] | None:
    """Return the plain values of what to train with, its section PROMISE filled; None where nothing fits."""
    config = recommended_config(found)
    if config is None or found.best is None:
        return None
    return as_values(config) | {"PROMISE": promise_of(found, found.best)}


def promise_of(found: Recommendation, best: Row) -> dict[str, Any]:
    """Return the section PROMISE: what the best was said to give, and on what; null for what is not known."""
    rate, base = best.samples_per_second, found.start.samples_per_second
    low, high = best.interval or (None, None)
    return {
        "SAMPLES_PER_SECOND": _rounded(rate),
        "LOW": _rounded(low),
        "HIGH": _rounded(high),
        "GAIN": _rounded(rate / base if rate and base else None),
        "PEAK_BYTES": best.peak_bytes,
        "HARDWARE": found.hardware,
    }


def promised_gain(start: Row, best: Row) -> tuple[float, float, float] | None:
    """Return how many times as fast the best is said to be, and the ends of the interval.

    The two are estimated apart, so the ends are those of the ratio of two figures that are independent. None
    where nothing tells of one of them.
    """
    if start.estimate is None or best.estimate is None:
        return None
    clips = best.candidate.effective_batch / start.candidate.effective_batch
    gain = clips * start.estimate.seconds / best.estimate.seconds
    below = _apart(start.estimate.seconds / start.estimate.low, best.estimate.high / best.estimate.seconds)
    above = _apart(start.estimate.high / start.estimate.seconds, best.estimate.seconds / best.estimate.low)
    return gain, gain / below, gain * above


def _apart(one: float, other: float) -> float:
    """Return the factor that two independent factors make together."""
    return math.exp(math.hypot(math.log(one), math.log(other)))


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else float(f"{figure:.{_DIGITS}g}")
