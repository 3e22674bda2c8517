"""Clips for training and for evaluation: samples that depend on (seed, epoch, index) and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from deblurkit.data.reconstruct import voxels
from deblurkit.data.unified import Sequence
from deblurkit.errors import DataError


class Clip(NamedTuple):
    """A clip, or a batch of clips with a leading B.

    Attributes:
        blurry: (T, 3, H, W) uint8 RGB.
        spikes: (T, K, h, w) float32 in [0, 1], box-bin voxels of each frame's exposure.
        sharp: (T, 3, H, W) uint8 RGB.
    """

    blurry: Tensor
    spikes: Tensor
    sharp: Tensor


class ClipKey(NamedTuple):
    """Which training sample: number ``clip`` of the dataset, augmented as in ``epoch``."""

    epoch: int
    clip: int


class Window(NamedTuple):
    """A place in the frame, in pixels of the frame."""

    top: int
    left: int
    height: int
    width: int


class TrainingClips(Dataset[Clip]):
    """Every run of ``clip_length`` frames of the sequences, cropped and flipped at random.

    A sample is a pure function of (seed, epoch, index): the same in any worker, in any order, after a resume.

    Args:
        sequences: the sequences of the training split.
        clip_length: T, frames of a sample.
        crop_size: side of the square crop, in frame pixels.
        num_voxel_bins: K, bins that each frame's spikes are gathered in.
        seed: of the run.

    Raises:
        DataError: where no clip or no crop of that size can be taken.
    """

    def __init__(
        self,
        sequences: SequenceOf[Sequence],
        *,
        clip_length: int,
        crop_size: int,
        num_voxel_bins: int,
        seed: int,
    ) -> None:
        self.sequences = list(sequences)
        self.clip_length = clip_length
        self.crop_size = crop_size
        self.num_voxel_bins = num_voxel_bins
        self.seed = seed
        for sequence in self.sequences:
            _check_crop(sequence, crop_size)
        self._places = _clip_places(self.sequences, clip_length)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: ClipKey) -> Clip:
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        which, start = self._places[index]
        sequence = self.sequences[which]
        window = _random_window(sequence, self.crop_size, rng)
        clip = _read_clip(sequence, range(start, start + self.clip_length), window, self.num_voxel_bins)
        return _as_tensors(*_augment(*clip, rng=rng))


class EvaluationPart(NamedTuple):
    """Frames ``start`` to ``stop`` of a sequence, of which those before ``keep_from`` are done already."""

    sequence: int
    start: int
    stop: int
    keep_from: int


class EvaluationClips(Dataset[Clip]):
    """Whole frames in clips that cover every sequence once; the last clip of each reaches back to fill up."""

    def __init__(self, sequences: SequenceOf[Sequence], *, clip_length: int, num_voxel_bins: int) -> None:
        self.sequences = list(sequences)
        self.num_voxel_bins = num_voxel_bins
        self.parts = [
            EvaluationPart(which, *bounds)
            for which, sequence in enumerate(self.sequences)
            for bounds in _cover(sequence.num_frames, clip_length)
        ]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Clip:
        part = self.parts[index]
        sequence = self.sequences[part.sequence]
        whole = Window(0, 0, *sequence.frame_shape)
        return _as_tensors(*_read_clip(sequence, range(part.start, part.stop), whole, self.num_voxel_bins))


def _clip_places(sequences: SequenceOf[Sequence], clip_length: int) -> NDArray[np.int32]:
    """Return (sequence, first frame) of every clip; an array, which workers share without copying."""
    places = [
        (which, start)
        for which, sequence in enumerate(sequences)
        for start in range(sequence.num_frames - clip_length + 1)
    ]
    if not places:
        longest = max((sequence.num_frames for sequence in sequences), default=0)
        raise DataError(
            f"DATA.CLIP_LEN: no sequence has {clip_length} frames (the longest has {longest});"
            " set a shorter DATA.CLIP_LEN or prepare longer sequences"
        )
    return np.array(places, dtype=np.int32)


def spike_ratio(sequence: Sequence) -> int:
    """Return how many frame pixels lie along one spike pixel.

    Raises:
        DataError: if the two sizes are not in one whole ratio.
    """
    (height, width), (spike_height, spike_width) = sequence.frame_shape, sequence.spike_shape
    ratio = height // spike_height
    if ratio < 1 or (ratio * spike_height, ratio * spike_width) != (height, width):
        raise DataError(
            f"{sequence.name}: frames of {height}x{width} and spikes of {spike_height}x{spike_width} are in"
            " no whole ratio, so crops cannot be paired; prepare frames of 1, 2 or 4 times the spikes' size"
        )
    return ratio


def _check_crop(sequence: Sequence, crop_size: int) -> None:
    ratio, smallest = spike_ratio(sequence), min(sequence.frame_shape)
    if crop_size > smallest or crop_size % ratio:
        fitting = min(crop_size, smallest) // (8 * ratio) * (8 * ratio) or ratio
        raise DataError(
            f"DATA.CROP_SIZE: a crop of {crop_size} does not fit {sequence.name}, whose frames are"
            f" {sequence.frame_shape[0]}x{sequence.frame_shape[1]} with spike pixels {ratio} wide;"
            f" try --set DATA.CROP_SIZE={fitting}"
        )


def _random_window(sequence: Sequence, size: int, rng: np.random.Generator) -> Window:
    ratio = spike_ratio(sequence)
    height, width = sequence.frame_shape
    top = int(rng.integers((height - size) // ratio + 1)) * ratio
    left = int(rng.integers((width - size) // ratio + 1)) * ratio
    return Window(top, left, size, size)


def _cover(num_frames: int, clip_length: int) -> list[tuple[int, int, int]]:
    """Return (start, stop, keep_from) of clips that cover ``num_frames`` once."""
    length = min(clip_length, num_frames)
    bounds = []
    for done in range(0, num_frames, length):
        start = min(done, num_frames - length)
        bounds.append((start, start + length, done))
    return bounds


Arrays = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]


def _read_clip(sequence: Sequence, frames: range, window: Window, num_voxel_bins: int) -> Arrays:
    """Return blurry (T, H, W, 3), voxels (T, K, h, w) and sharp (T, H, W, 3) of a window."""
    ratio = spike_ratio(sequence)
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    on_sensor = {
        "top": window.top // ratio,
        "left": window.left // ratio,
        "height": window.height // ratio,
        "width": window.width // ratio,
    }
    blurry = np.stack([sequence.read_blurry(t)[rows, columns] for t in frames])
    sharp = np.stack([sequence.read_sharp(t)[rows, columns] for t in frames])
    spikes = np.stack([voxels(sequence.read_spikes(t, **on_sensor), num_voxel_bins) for t in frames])
    return blurry, spikes, sharp


def _augment(
    blurry: NDArray[np.uint8],
    spikes: NDArray[np.float32],
    sharp: NDArray[np.uint8],
    *,
    rng: np.random.Generator,
) -> Arrays:
    """Flip and turn the three alike; a clip run backwards has its spikes run backwards too."""
    upside_down, mirrored, transposed, backwards = rng.random(4) < 0.5
    if backwards:
        blurry, sharp, spikes = blurry[::-1], sharp[::-1], spikes[::-1, ::-1]
    if upside_down:
        blurry, sharp, spikes = blurry[:, ::-1], sharp[:, ::-1], spikes[:, :, ::-1]
    if mirrored:
        blurry, sharp, spikes = blurry[:, :, ::-1], sharp[:, :, ::-1], spikes[..., ::-1]
    if transposed:
        blurry, sharp, spikes = blurry.swapaxes(1, 2), sharp.swapaxes(1, 2), spikes.swapaxes(2, 3)
    return blurry, spikes, sharp


def _as_tensors(blurry: NDArray[np.uint8], spikes: NDArray[np.float32], sharp: NDArray[np.uint8]) -> Clip:
    """Return the arrays as tensors with channels before rows."""
    return Clip(
        blurry=torch.from_numpy(np.ascontiguousarray(blurry.transpose(0, 3, 1, 2))),
        spikes=torch.from_numpy(np.ascontiguousarray(spikes)),
        sharp=torch.from_numpy(np.ascontiguousarray(sharp.transpose(0, 3, 1, 2))),
    )
