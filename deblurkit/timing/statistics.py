"""Figures of one row over a run, in bounded memory."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence

MOST_VALUES = 10_000


class Statistics:
    """Count, sum, least, most and quantiles of one row over the steps that had it, in milliseconds.

    Quantiles are exact up to ``MOST_VALUES`` steps; after that they are those of a uniform sample of that
    many (Vitter's algorithm R, 1985), always the same one for the same steps.

    Attributes:
        count, total, least, most: over all steps, exact.
    """

    __slots__ = ("_random", "_values", "count", "least", "most", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.least = float("inf")
        self.most = 0.0
        self._values = array("d")
        self._random: random.Random | None = None

    def add(self, milliseconds: float) -> None:
        """Take one more step's value in."""
        self.count = count = self.count + 1
        self.total += milliseconds
        if milliseconds < self.least:
            self.least = milliseconds
        if milliseconds > self.most:
            self.most = milliseconds
        if count <= MOST_VALUES:
            self._values.append(milliseconds)
        else:
            self._replace_one(milliseconds)

    @property
    def mean(self) -> float:
        """Mean over the steps that had the row; 0 before the first."""
        return self.total / self.count if self.count else 0.0

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Return the values that these shares of the steps stay within, interpolated; 0 before the first."""
        ordered = sorted(self._values)
        return [_quantile(ordered, share) for share in shares]

    def _replace_one(self, milliseconds: float) -> None:
        if self._random is None:
            self._random = random.Random(0)
        place = int(self._random.random() * self.count)
        if place < MOST_VALUES:
            self._values[place] = milliseconds


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return the quantile that numpy's default (linear) gives."""
    if not ordered:
        return 0.0
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])
