"""Whether blurry frames are a plain mean of what the camera stored, or of light (``blur``, ``blur_gamma``).

Where the light at a pixel changes within an exposure, (mean of I^2.2)^(1/2.2) lies above the mean of I; where
it is steady both are I. The spikes of seven parts of the exposure say how the light changed, so

    blurry = polynomial of the mean rate + excess * (how far the 2.2-mean of the seven rates lies above it)

has an excess of 0 for ``blur`` and well above 1 for ``blur_gamma`` (near 2, as pixels smaller than the spike
sensor's change more than it sees). Rates of few spikes are noisy, and noise alone lifts a 2.2-mean. So every
2 x 2 pixels are split into their two diagonals, whose noise is independent, and each serves as the instrument
of the other (two-stage least squares): noise then widens the error and leaves the value where it is.

Nothing is said where the error is too wide, where the diagonals do not see the same changes (hardly anything
moves, or there are too few spikes), or where the spikes are not linear in the stored values: spikes of linear
light would make both variants look alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurkit.data.simulate import BlurVariant, Frame, gray

Values: TypeAlias = NDArray[np.float64]

_PARTS = 7
_SATURATED = 0.9  # spikes a frame: more light hardly adds to them
_GAMMA = 2.2
_BLOCKS = 4
_BETWEEN = 1.2  # an excess below it is blur, above it blur_gamma
_LEAST = -0.75  # an excess below it fits neither variant
_STANDARD_ERRORS = 3.0
_WIDEST_ERROR = 0.45
_LEAST_RELIABILITY: dict[BlurVariant, float] = {"blur": 0.3, "blur_gamma": 0.15}
_LINEAR = (0.85, 1.3)  # slope of brightness against rate in dark pixels over that in light ones
_COLUMNS = 4  # 1, rate, rate squared, excess


@dataclass(frozen=True)
class Fingerprint:
    """How the light of the blurry frames seems to have been averaged.

    Attributes:
        variant: None where it cannot be told.
        excess: about 0 for ``blur``, about 2 for ``blur_gamma``.
        error: its standard error.
    """

    variant: BlurVariant | None
    excess: float
    error: float


@dataclass(frozen=True)
class Moments:
    """What one exposure adds to the regression, block by block.

    Attributes:
        product: first diagonal by second, made symmetric, (blocks, 4, 4).
        target: diagonals by brightness, (blocks, 4).
        own: each diagonal by itself, summed over both, (blocks, 4, 4).
        rates: mean and standard deviation of the rates of the exposure.
    """

    product: Values
    target: Values
    own: Values
    rates: tuple[float, float]


def exposure_moments(spikes: Frame, blurry: Frame) -> Moments:
    """Return what an exposure says: uint8 (T, h, w) of its spikes alone, RGB uint8 of any size."""
    frames, height, width = spikes.shape
    height, width = height // 2 * 2, width // 2 * 2
    target = cv2.resize(gray(blurry), (spikes.shape[2], spikes.shape[1]), interpolation=cv2.INTER_AREA)
    falling, rising = _diagonals(np.asarray(target[:height, :width], dtype=np.float64))
    brightness = (falling + rising) / 2
    borders = np.linspace(0, frames, _PARTS + 1).round().astype(int)
    parts = [
        spikes[start:stop, :height, :width].mean(axis=0, dtype=np.float64)
        for start, stop in zip(borders[:-1], borders[1:], strict=True)
    ]
    falling_rates, rising_rates = _diagonals(np.stack(parts))
    linear = np.maximum(falling_rates.max(axis=0), rising_rates.max(axis=0)) < _SATURATED
    first, second = _regressors(falling_rates, linear), _regressors(rising_rates, linear)
    blocks = _block_numbers(height // 2, width // 2)
    cross = _outer(first, second, blocks)
    rates = np.mean(parts, axis=0)
    return Moments(
        product=cross + cross.transpose(0, 2, 1),
        target=_outer(first + second, brightness.reshape(1, -1), blocks)[..., 0],
        own=_outer(first, first, blocks) + _outer(second, second, blocks),
        rates=(float(rates.mean()), float(rates.std())),
    )


def fingerprint(exposures: Sequence[Moments]) -> Fingerprint:
    """Return which variant the blurry frames of these exposures show, at least one exposure."""
    products = np.concatenate([moments.product for moments in exposures])  # (blocks, 4, 4)
    targets = np.concatenate([moments.target for moments in exposures])
    product, target = products.sum(axis=0), targets.sum(axis=0)
    scale = np.sqrt(np.abs(np.diag(product)))
    if not scale.all() or np.linalg.cond(product / np.outer(scale, scale)) > 1e10:
        return Fingerprint(variant=None, excess=0.0, error=float("inf"))
    inverse = np.linalg.inv(product)
    fitted = inverse @ target
    residuals = targets - products @ fitted
    error = float(np.sqrt(((residuals @ inverse)[:, -1] ** 2).sum()))
    mean = float(np.mean([moments.rates[0] for moments in exposures]))
    spread = float(np.mean([moments.rates[1] for moments in exposures]))
    slope = fitted[1] + 2 * fitted[2] * mean
    if slope <= 0 or not _is_linear(fitted, mean, spread):
        return Fingerprint(variant=None, excess=0.0, error=float("inf"))
    excess, error = float(fitted[-1] / slope), error / float(slope)
    own = np.sum([moments.own for moments in exposures], axis=(0, 1))
    variant = _called(excess, error)
    if variant is not None and _reliability(product, own) < _LEAST_RELIABILITY[variant]:
        variant = None
    return Fingerprint(variant=variant, excess=excess, error=error)


def _called(excess: float, error: float) -> BlurVariant | None:
    if excess - _BETWEEN > _STANDARD_ERRORS * error:
        return "blur_gamma"
    if excess < _LEAST:
        return None
    if error <= _WIDEST_ERROR and _BETWEEN - excess > _STANDARD_ERRORS * error:
        return "blur"
    return None


def _is_linear(fitted: Values, mean: float, spread: float) -> bool:
    """Return whether brightness rises about as steeply with the rate in dark pixels as in light ones."""
    dark, light = (fitted[1] + 2 * fitted[2] * (mean + sign * spread) for sign in (-1, 1))
    return light > 0 and _LINEAR[0] < dark / light < _LINEAR[1]


def _reliability(product: Values, own: Values) -> float:
    """Return the correlation of the excess in both diagonals, given their rates."""
    between = _given_rates(product)
    within = _given_rates(own)
    return float(between / within) if within > 0 else 0.0


def _given_rates(matrix: Values) -> float:
    """Return what is left of the last entry once the other columns are accounted for."""
    explained = matrix[-1, :-1] @ np.linalg.pinv(matrix[:-1, :-1]) @ matrix[:-1, -1]
    return float(matrix[-1, -1] - explained)


def _regressors(rates: Values, kept: NDArray[np.bool_]) -> Values:
    """Return 1, rate, rate squared and the excess of the 2.2-mean: (parts, h, w) -> (4, h * w).

    Pixels that are not kept, (h, w), are 0 in all.
    """
    mean = rates.mean(axis=0)
    excess = (rates**_GAMMA).mean(axis=0) ** (1 / _GAMMA) - mean
    return (np.stack([np.ones_like(mean), mean, mean**2, excess]) * kept).reshape(_COLUMNS, -1)


def _diagonals(image: Values) -> tuple[Values, Values]:
    """Return the means of the two diagonals of every 2 x 2 pixels: (..., h, w) -> 2 x (..., h / 2, w / 2)."""
    falling = (image[..., ::2, ::2] + image[..., 1::2, 1::2]) / 2
    rising = (image[..., ::2, 1::2] + image[..., 1::2, ::2]) / 2
    return falling, rising


def _block_numbers(height: int, width: int) -> NDArray[np.int64]:
    rows = np.arange(height) * _BLOCKS // height
    columns = np.arange(width) * _BLOCKS // width
    return (rows[:, None] * _BLOCKS + columns[None, :]).ravel()


def _outer(first: Values, second: Values, blocks: NDArray[np.int64]) -> Values:
    """Return the sums of products in each block: (a, n), (b, n) -> (blocks, a, b)."""
    found = np.empty((_BLOCKS * _BLOCKS, len(first), len(second)))
    for block in range(_BLOCKS * _BLOCKS):
        chosen = blocks == block
        found[block] = first[:, chosen] @ second[:, chosen].T
    return found
