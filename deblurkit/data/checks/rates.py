"""How often pixels fire."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deblurkit.data.simulate import Frame

_BITS_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.uint8)


def packed_rate(packed: NDArray[np.uint8]) -> float:
    """Return the share of bits that are set in packed spikes, in [0, 1]."""
    return float(_BITS_SET[packed].mean(dtype=np.float64)) / 8


def spike_counts(spikes: Frame) -> NDArray[np.int64]:
    """Return how often each pixel fired: uint8 (T, h, w) -> (h, w)."""
    return np.asarray(spikes.sum(axis=0, dtype=np.int64))


def extreme_pixels(counts: NDArray[np.int64], frames: int) -> tuple[float, float]:
    """Return the shares of pixels that fired in none, and in all, of ``frames``: counts of spikes, (h, w)."""
    return float((counts == 0).mean()), float((counts == frames).mean())
