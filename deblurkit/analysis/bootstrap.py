"""How far a mean over a run can be trusted: intervals by circular block bootstrap.

The steps of a run are not independent: a slow disk slows ten of them, a warm GPU all that follow. So whole
blocks of neighbouring steps are drawn (Politis and Romano 1992, "A circular block-resampling procedure"), as
long as the series itself asks for (Politis and White 2004, "Automatic block-length selection", with the
correction of Patton, Politis and White 2009). Draws from few or short blocks come out too close together:
they are spread by Student's t for as many blocks as the run has, and by the variance that blocks cut off.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DRAWS = 2_000
MOST_CELLS = 2_000  # a longer run is first cut into so many stretches of equal length, each one mean
_AT_ONCE = 250  # draws: more at once take more memory and no less time
_COVERED = (0.025, 0.975)
_NORMAL = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Interval:
    """A figure and the 95 % interval that it lies in; without bounds where the log cannot tell them."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def known(self) -> bool:
        """Whether it has bounds."""
        return self.low is not None and self.high is not None

    @property
    def above(self) -> float:
        """The lower bound; minus infinity where it is not known."""
        return -math.inf if self.low is None else self.low

    @property
    def below(self) -> float:
        """The upper bound; infinity where it is not known."""
        return math.inf if self.high is None else self.high

    def excludes(self, value: float) -> bool:
        """Return whether ``value`` lies outside of the bounds; False where they are not known."""
        return self.above > value or self.below < value


@dataclass(frozen=True)
class Resampled:
    """Means of the columns of a run, and what they could as well have come out as.

    Attributes:
        means: one a column.
        draws: (draws, columns), already spread for the number of blocks, within the range of the values.
        blocks: how many independent stretches the run is worth.
    """

    means: Floats
    draws: Floats
    blocks: float


def resample(
    columns: Floats,
    weights: Floats | None = None,
    *,
    deciding: npt.NDArray[np.bool_] | None = None,
    draws: int = DRAWS,
    seed: int | tuple[int, ...] = 0,
) -> Resampled:
    """Return the weighted means of ``columns`` with as many draws of them.

    Args:
        columns: (rows, columns), in the order of the run.
        weights: steps that each row is the mean of; 1 each if None.
        deciding: columns that the length of the blocks is chosen by; all of them if None.
        draws: how many to make.
        seed: of the draws; the same one makes the same.

    Raises:
        ValueError: if there is no row.
    """
    if not len(columns):
        raise ValueError("no row to draw from")
    sums, counts = _cells(columns, np.ones(len(columns)) if weights is None else weights)
    wanted = sums / counts[:, None]
    chosen = wanted if deciding is None else wanted[:, deciding]
    memories = [memory_of(values) for values in chosen.T]
    block = max((memory.block for memory in memories), default=1)
    missed = max((memory.reach for memory in memories), default=0.0) / block
    means = sums.sum(axis=0) / counts.sum()
    starts = np.random.default_rng(seed).integers(len(sums), size=(draws, math.ceil(len(sums) / block)))
    drawn = np.concatenate(
        [_means(sums, counts, starts[at : at + _AT_ONCE], block) for at in range(0, draws, _AT_ONCE)]
    )
    blocks = len(sums) / block
    spread = _spread(blocks) * math.sqrt((1 + missed) * math.ceil(blocks) * block / len(sums))
    spread_draws = means + spread * (drawn - means)
    return Resampled(means, np.clip(spread_draws, columns.min(axis=0), columns.max(axis=0)), blocks)


def means_only(columns: Floats, weights: Floats) -> Resampled:
    """Return the weighted means of ``columns`` (rows, columns) without any draw: their spread is unknown."""
    means = weights @ columns / weights.sum()
    return Resampled(means, np.empty((0, columns.shape[1])), 0.0)


@dataclass(frozen=True)
class Pair:
    """Two runs with the same columns."""

    a: Resampled
    b: Resampled

    def derive(self, figure: Callable[[Floats, Floats], Floats]) -> Interval:
        """Return a figure of both runs.

        Args:
            figure: the means of A and of B (..., columns) to the figure (...).
        """
        value = float(figure(self.a.means, self.b.means))
        if not (len(self.a.draws) and len(self.b.draws)):
            return Interval(value)
        return interval(value, figure(self.a.draws, self.b.draws))


def interval(value: float, draws: Floats) -> Interval:
    """Return ``value`` with the bounds that 95 in 100 of ``draws`` keep to."""
    low, high = np.quantile(draws, _COVERED)
    return Interval(float(value), float(low), float(high))


@dataclass(frozen=True)
class Memory:
    """How long neighbouring values of a series stay alike.

    Attributes:
        block: length of blocks that tells the variance of the mean best.
        reach: weighted sum of lags by their correlation: blocks of length b miss the share ``reach / b`` of
            that variance, to first order.
    """

    block: int
    reach: float


def memory_of(series: Floats) -> Memory:
    """Return the memory of a series.

    The block's length is that of Politis and White (2004), section 3.2, for the circular bootstrap, with
    their constants: an autocorrelation counts until some lags in a row stay below ``2 sqrt(log10(n) / n)``.
    A short series hides correlations up to that limit, so that its blocks are at least the cube root of n
    long.
    """
    size = len(series)
    deviations = series - series.mean()
    variance = float(deviations @ deviations) / size
    if size < 4 or variance <= (1e-9 * abs(float(series.mean()))) ** 2:
        return Memory(1, 0.0)
    slope, level = _slope_and_level(deviations)
    reach = max(0.0, slope / level) if level > 0 else 0.0
    best = math.ceil((1.5 * reach**2 * size) ** (1 / 3))
    least, most = math.ceil(size ** (1 / 3)), math.ceil(min(3 * math.sqrt(size), size / 3))
    return Memory(min(max(best, least), most), reach)


def _slope_and_level(deviations: Floats) -> tuple[float, float]:
    """Return the sums of lag times covariance and of covariance over all lags, each side of zero."""
    size = len(deviations)
    in_a_row = max(5, math.ceil(math.sqrt(math.log10(size))))
    most = min(size - 1, math.ceil(math.sqrt(size)) + in_a_row)
    covariances = _covariances(deviations, most)
    last = _last_correlated(covariances[1:] / covariances[0], in_a_row, size)
    lags = np.arange(1, most + 1)
    window = np.clip(2 * (1 - lags / max(1, min(2 * last, most))), 0.0, 1.0) * covariances[1:]
    return 2 * float(lags @ window), float(covariances[0] + 2 * window.sum())


def _covariances(deviations: Floats, most: int) -> Floats:
    """Return the autocovariances at the lags 0 to ``most``."""
    size = len(deviations)
    spectrum = np.abs(np.fft.rfft(deviations, 2 * size)) ** 2
    return np.fft.irfft(spectrum, 2 * size)[: most + 1] / size


def _last_correlated(correlations: Floats, in_a_row: int, size: int) -> int:
    """Return the last lag before the correlations stay small; the last of all where they never do."""
    large = np.flatnonzero(np.abs(correlations) >= 2 * math.sqrt(math.log10(size) / size)) + 1
    gaps = np.diff(np.concatenate(([0], large, [len(correlations) + in_a_row + 1])))
    ends = np.concatenate(([0], large))
    return int(ends[np.argmax(gaps > in_a_row)])


def _cells(columns: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return sums of neighbouring rows and of their weights, at most ``MOST_CELLS`` of them."""
    weighted = columns * weights[:, None]
    size = -(-len(columns) // MOST_CELLS)
    if size == 1:
        return weighted, weights
    starts = np.arange(0, len(columns), size)
    return np.add.reduceat(weighted, starts, axis=0), np.add.reduceat(weights, starts)


def _means(sums: Floats, counts: Floats, starts: npt.NDArray[np.int64], block: int) -> Floats:
    """Return the weighted means of draws: (draws, columns) from the (draws, blocks) where blocks start."""
    coverage = _coverage(len(sums), block, starts)
    return (coverage @ sums) / (coverage @ counts)[:, None]


def _coverage(size: int, block: int, starts: npt.NDArray[np.int64]) -> Floats:
    """Return how often each draw takes each of ``size`` rows: (draws, size), blocks go round the end."""
    draws = len(starts)
    cells = (starts + size * np.arange(draws)[:, None]).ravel()
    begun = np.bincount(cells, minlength=draws * size).reshape(draws, size)
    if block == 1:
        return begun.astype(np.float64)
    running = np.cumsum(np.concatenate((begun[:, size - block :], begun), axis=1), axis=1)
    return (running[:, block:] - running[:, :-block]).astype(np.float64)


def _spread(blocks: float) -> float:
    """Return by what factor draws from so many blocks lie too close to their mean."""
    freedom = max(blocks - 1, 1.0)
    return math.sqrt(blocks / freedom) * _student(freedom) / _NORMAL


def _student(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t (Abramowitz and Stegun, 26.7.5; 1 % off at 3 degrees)."""
    z = _NORMAL
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))
