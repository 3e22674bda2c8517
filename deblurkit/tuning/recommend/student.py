"""Student's t, for intervals from a handful of measurements."""

from __future__ import annotations

import math

_FAR = 1e6  # beyond all quantiles that anybody asks for
_HALVINGS = 80


def student_quantile(freedom: int, *, confidence: float) -> float:
    """Return t such that a share of ``confidence`` of Student's distribution lies between -t and t.

    Args:
        freedom: degrees of it, at least 1.
        confidence: between 0 and 1.
    """
    low, high = 0.0, _FAR
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _share_within(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _share_within(t: float, freedom: int) -> float:
    """Return the share between -t and t (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = freedom % 2
    term, total = (cosine, 0.0) if is_odd else (1.0, 0.0)
    for power in range(1 + is_odd, freedom, 2):
        total += term
        term *= cosine**2 * power / (power + 1)
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total
