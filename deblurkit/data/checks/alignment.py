"""Whether spikes and blurry frames were paired right in time.

The mean of the spikes over an exposure is the same smear that the slow shutter saw, so it explains the blurry
frame best when both cover the same time. Each exposure is compared with windows of its length that start
earlier and later.

A shift is called where the windows there explain the frames clearly better than those they are paired with:
by at least 0.002 of their variance and 2 % of what was left unexplained, in block after block of the picture
(Wilcoxon's signed ranks, 3.4 standard errors), and by more than 1/16 of an exposure. Where nothing moves all
windows look alike, and nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurkit.data.simulate import Frame, gray

Values: TypeAlias = NDArray[np.float64]
Image: TypeAlias = NDArray[np.float32]

_BLOCKS = 4  # the picture is cut into 4 x 4 of them
_STANDARD_ERRORS = 3.4  # 3.5 is the most that 16 blocks of one exposure can give
_LEAST_GAIN = 0.002  # of the variance of the blurry frame
_LEAST_GAIN_SHARE = 0.02  # of the variance that is left unexplained
_STILL = 0.01  # explained variances that differ by less over all shifts: nothing moves
_LEAST_SCORE = 0.3  # a correlation below it at every shift: these are not spikes of that scene


@dataclass(frozen=True)
class Strip:
    """Spikes around an exposure, as far as there are any, and its blurry frame.

    Attributes:
        spikes: uint8 (N, h, w).
        start: frame of them at which the exposure starts.
        frames: length of the exposure.
        blurry: RGB, uint8, of any size.
    """

    spikes: Frame
    start: int
    frames: int
    blurry: Frame


@dataclass(frozen=True)
class Fits:
    """How the windows of one exposure fit at each shift; nan where the window leaves the strip.

    Attributes:
        scores: Pearson's r of the window's mean and the gray blurry frame, (shifts,).
        unexplained: share of the frame's variance left over, by block; sums to 1 - r^2, (16, shifts).
    """

    scores: Values
    unexplained: Values


@dataclass(frozen=True)
class Alignment:
    """How well spikes and blurry frames fit in time.

    Attributes:
        score: mean correlation as they are paired.
        best_shift: spike frames by which they fit best; None where nothing moves.
        best_score: mean correlation there.
        shifted_from: first of the exposures that fit clearly better at that shift; None for none.
    """

    score: float
    best_shift: int | None
    best_score: float
    shifted_from: int | None = None


def fits(strip: Strip, shifts: range) -> Fits:
    """Return how the windows of an exposure fit its blurry frame at each shift."""
    shape = strip.spikes.shape[1:]
    rows, columns = (length // _BLOCKS * _BLOCKS for length in shape)
    spikes = strip.spikes[:, :rows, :columns]
    small = cv2.resize(gray(strip.blurry), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    target = _standardised(np.asarray(small[:rows, :columns], dtype=np.float32))
    scores = np.full(len(shifts), np.nan)
    unexplained = np.full((_BLOCKS * _BLOCKS, len(shifts)), np.nan)
    total: Image | None = None
    for column, shift in enumerate(shifts):
        first, stop = strip.start + shift, strip.start + shift + strip.frames
        if first < 0 or stop > len(spikes):
            continue
        if total is None:
            total = spikes[first:stop].sum(axis=0, dtype=np.float32)
        else:
            total += spikes[stop - 1]
            total -= spikes[first - 1]
        window = _standardised(total)
        scores[column] = float((window * target).sum())
        unexplained[:, column] = _block_sums((target - np.float32(scores[column]) * window) ** 2)
    return Fits(scores=scores, unexplained=unexplained)


def measure_alignment(exposures: Sequence[Fits], shifts: range, *, frames: int) -> Alignment:
    """Return how well exposures fit and whether they, or all from one of them on, are shifted.

    Args:
        exposures: their fits in the order of time, at least one; shift 0 is there in each.
        shifts: of their columns, in steps of 1.
        frames: spike frames in an exposure.
    """
    scores = np.stack([fit.scores for fit in exposures])  # (exposures, shifts)
    unexplained = np.stack([fit.unexplained for fit in exposures])  # (exposures, 16, shifts)
    zero = shifts.index(0)
    score = float(scores[:, zero].mean())
    left = unexplained.sum(axis=1)
    if np.nanmax(left) - np.nanmin(left) < _STILL or np.nanmax(scores) < _LEAST_SCORE:
        return Alignment(score=score, best_shift=None, best_score=score)
    whole = _best_column(unexplained, zero)
    for first in (0, *range(1, len(exposures) - 1)):  # a frame lost half-way shifts all that comes after it
        column = _best_column(unexplained[first:], zero)
        if _is_clear(unexplained[first:], column, zero) and abs(shifts[column]) > max(2, frames // 16):
            best = float(np.nanmean(np.append(scores[:first, zero], scores[first:, column])))
            return Alignment(score, shifts[column], best, shifted_from=first)
    return Alignment(score, shifts[whole], float(np.nanmean(scores[:, whole])))


def _best_column(unexplained: Values, zero: int) -> int:
    """Return the shift, as a column, that leaves least unexplained, among those half the exposures have."""
    gains = (unexplained[..., zero : zero + 1] - unexplained).sum(axis=1)  # (exposures, shifts)
    there = np.isfinite(gains)
    means = np.where(there, gains, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return int(np.where(2 * there.sum(axis=0) >= len(gains), means, -np.inf).argmax())


def _is_clear(unexplained: Values, column: int, zero: int) -> bool:
    """Return whether the windows at a shift explain the exposures clearly better than those at none."""
    kept = np.isfinite(unexplained[:, 0, column])
    gains = (unexplained[kept, :, zero] - unexplained[kept, :, column]).ravel()
    gain = float(gains.sum()) / int(kept.sum())
    left = float(unexplained[kept, :, zero].sum(axis=1).mean())
    return gain >= max(_LEAST_GAIN, _LEAST_GAIN_SHARE * left) and _signed_ranks(gains) > _STANDARD_ERRORS


def _signed_ranks(values: Values) -> float:
    """Return Wilcoxon's statistic in standard errors: few blocks move, and those move a lot."""
    ranks = np.abs(values).argsort().argsort() + 1.0
    return float((np.sign(values) * ranks).sum() / np.sqrt((ranks**2).sum()))


def _standardised(image: Image) -> Image:
    centred = image - image.mean()
    length = float(np.linalg.norm(centred))
    return centred / np.float32(length) if length > 0 else centred


def _block_sums(image: Image) -> Values:
    height, width = image.shape
    cut = image.reshape(_BLOCKS, height // _BLOCKS, _BLOCKS, width // _BLOCKS)
    return np.asarray(cut.sum(axis=(1, 3), dtype=np.float64).ravel())
