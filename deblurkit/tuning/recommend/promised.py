"""The recommended configuration with the promise that `train` checks."""

from __future__ import annotations

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


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else float(f"{figure:.{_DIGITS}g}")
