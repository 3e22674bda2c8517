"""Long series as few points: neighbouring values put together, with their mean and their range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deblurkit.analysis.series import Floats

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bins:
    """Stretches of a series, one after the other, that are drawn as a point each.

    Attributes:
        firsts, lasts: the places at which each begins and ends.
    """

    firsts: Ints
    lasts: Ints

    def __len__(self) -> int:
        return len(self.firsts)

    @property
    def middles(self) -> Ints:
        """The place in the middle of each."""
        return (self.firsts + self.lasts) // 2

    @property
    def hold_several(self) -> bool:
        """Whether any stretch is more than a single value."""
        return bool((self.lasts > self.firsts).any())

    def means(self, values: Floats) -> Floats:
        """Return the mean of each stretch."""
        return np.add.reduceat(values, self.firsts) / (self.lasts - self.firsts + 1)

    def lows(self, values: Floats) -> Floats:
        """Return the lowest value of each stretch."""
        return np.minimum.reduceat(values, self.firsts)

    def highs(self, values: Floats) -> Floats:
        """Return the highest value of each stretch."""
        return np.maximum.reduceat(values, self.firsts)


def bins(count: int, most: int) -> Bins:
    """Return ``count`` values as ``most`` stretches of about equal length; up to ``2 * most`` stay single.

    Raises:
        ValueError: if there is no value.
    """
    if count < 1:
        raise ValueError("no value to draw")
    size = count if count <= 2 * most else most
    firsts = np.arange(size, dtype=np.int64) * count // size
    return Bins(firsts, np.append(firsts[1:] - 1, count - 1))
