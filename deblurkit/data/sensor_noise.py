"""Spikes as another sensor might have given them: changes of a recording that training draws at random.

Simulated recordings fire at a rate of about 0.3, a real one showed 0.03: a network that has seen one kind of
sensor should not depend on it. Every change acts on the bits, before they become voxels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deblurkit.data.frames import Window
from deblurkit.data.unified import Sequence

Bits: TypeAlias = NDArray[np.uint8]


class PackedExposure(NamedTuple):
    """The spikes of one exposure as bits, (T, h, b), and the bit of each row at which the crop begins."""

    packed: Bits
    first_bit: int


SpikeReader: TypeAlias = Callable[[Sequence, int, Window], PackedExposure]


def read_bits(sequence: Sequence, index: int, window: Window) -> PackedExposure:
    """Return the spikes of an exposure as they were recorded; ``window`` is in spike pixels."""
    return PackedExposure(sequence.read_packed_spikes(index, window), window.left % 8)


@dataclass(frozen=True)
class SensorNoise:
    """How far training changes the spikes of a clip; everything is drawn once for a clip.

    Attributes:
        gain: smallest and largest factor on the charge that light adds; what arrives is integrated again.
        threshold: smallest and largest factor on the charge at which a pixel fires.
        false_spikes: largest share of frames in which a pixel fires without light.
        dropout: largest share of spikes that are lost.
        shift: most spike frames by which the recording is early or late.
    """

    gain: tuple[float, float] = (1.0, 1.0)
    threshold: tuple[float, float] = (1.0, 1.0)
    false_spikes: float = 0.0
    dropout: float = 0.0
    shift: int = 0

    def is_none(self) -> bool:
        """Return whether nothing is changed."""
        return self == SensorNoise()


class NoisyReader:
    """Reads the spikes of one clip, changed as one draw of ``noise`` says."""

    def __init__(self, noise: SensorNoise, rng: np.random.Generator) -> None:
        self._rng = rng
        self._factor = rng.uniform(*noise.gain) / rng.uniform(*noise.threshold)
        self._false = rng.uniform(0, noise.false_spikes)
        self._lost = rng.uniform(0, noise.dropout)
        self._shift = int(rng.integers(-noise.shift, noise.shift + 1))

    def read(self, sequence: Sequence, index: int, window: Window) -> PackedExposure:
        """Return the spikes of an exposure, changed; ``window`` is in spike pixels."""
        packed = sequence.read_packed_spikes(index, window, shift=self._shift)
        first = window.left % 8
        bits = np.unpackbits(packed, axis=-1, bitorder="little")[..., first : first + window.width]
        if self._factor != 1.0:
            bits = integrated_again(bits, self._factor, self._rng)
        if self._lost:
            bits = bits & (self._rng.random(bits.shape, dtype=np.float32) >= self._lost)
        if self._false:
            bits = bits | (self._rng.random(bits.shape, dtype=np.float32) < self._false)
        changed = np.zeros_like(packed)
        whole = np.packbits(bits, axis=-1, bitorder="little")
        changed[..., : whole.shape[-1]] = whole
        return PackedExposure(changed, 0)


def integrated_again(bits: Bits, factor: float, rng: np.random.Generator) -> Bits:
    """Return what a pixel would have fired if each spike had been ``factor`` of a threshold's charge.

    V += factor * S; fire at V >= 1; V -= 1, from a charge drawn uniformly in [0, 1). A pixel fires at most
    once a frame: what is left over stays, as in the sensor.

    Args:
        bits: uint8 (T, h, w) of 0 and 1.
        factor: above 0.
        rng: draws the charges at the start.
    """
    charge = rng.random(bits.shape[1:], dtype=np.float32)
    if factor <= 1.0:  # never more than one threshold at a time: the whole numbers that the sum passes
        passed = np.floor(charge + np.float32(factor) * bits.cumsum(axis=0, dtype=np.float32))
        return np.diff(passed, axis=0, prepend=0).astype(np.uint8)
    fired = np.empty_like(bits)
    for frame, spikes in enumerate(bits):
        charge += np.float32(factor) * spikes
        fired[frame] = charge >= 1
        charge -= fired[frame]
    return fired
