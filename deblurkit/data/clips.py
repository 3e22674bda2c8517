"""Clips for training and for evaluation: samples that depend on (seed, epoch, index) and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from deblurkit.cache.stats import format_cache_stats
from deblurkit.data.frames import Window
from deblurkit.data.raw import Clip, RawClip, View, as_clip
from deblurkit.data.sensor_noise import NoisyReader, SensorNoise, SpikeReader, read_bits
from deblurkit.data.unified import Sequence
from deblurkit.data.voxel_store import CountedReader
from deblurkit.errors import DataError


class ClipKey(NamedTuple):
    """Which training sample: number ``clip`` of the dataset, augmented as in ``epoch``."""

    epoch: int
    clip: int


class _Clips(Dataset[Clip | RawClip]):
    """What training and evaluation share: sequences, and where voxels are made.

    Args:
        sequences: of a split.
        num_voxel_bins: K, bins that each frame's spikes are gathered in.
        voxels_on_worker: give clips that are ready for a step; off, as they were read (`raw.as_clips`).
        counted: reads voxels that were made before, where given.
    """

    def __init__(
        self,
        sequences: SequenceOf[Sequence],
        *,
        num_voxel_bins: int,
        voxels_on_worker: bool,
        counted: CountedReader | None,
    ) -> None:
        self.sequences = list(sequences)
        self.num_voxel_bins = num_voxel_bins
        self.voxels_on_worker = voxels_on_worker
        self.counted = counted

    @property
    def _recorded(self) -> SpikeReader:
        return read_bits if self.counted is None else self.counted.read

    def print_cache_stats(self) -> None:
        """Print what the node's cache of decoded frames has answered so far, over all its processes."""
        cache = self.sequences[0].cache
        print("no cache" if cache is None else format_cache_stats(cache.stats()))

    def _given(self, raw: RawClip) -> Clip | RawClip:
        return as_clip(raw, self.num_voxel_bins) if self.voxels_on_worker else raw


class TrainingClips(_Clips):
    """Every run of so many frames of the sequences, cropped and flipped at random.

    A sample is a pure function of (seed, epoch, index): the same in any worker, in any order, after a resume.
    Where clips are longer in some epochs than in others, there are as many of them in every epoch: the runs
    are of the longest, and a shorter clip lies somewhere in its run.

    Args:
        sequences: the sequences of the training split.
        clip_length: T, frames of a sample.
        crop_size: side of the square crop, in frame pixels.
        num_voxel_bins: K, bins that each frame's spikes are gathered in.
        seed: of the run.
        later_crops: (epoch, side) from which the crop has another side, in rising order.
        later_lengths: (epoch, frames) from which a sample has another length, likewise.
        noise: changes the spikes at random, where given; not together with ``counted``.
        voxels_on_worker: give clips that are ready for a step; off, as they were read.
        counted: reads voxels that were made before, where given.

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
        later_crops: SequenceOf[tuple[int, int]] = (),
        later_lengths: SequenceOf[tuple[int, int]] = (),
        noise: SensorNoise | None = None,
        voxels_on_worker: bool = True,
        counted: CountedReader | None = None,
    ) -> None:
        super().__init__(
            sequences, num_voxel_bins=num_voxel_bins, voxels_on_worker=voxels_on_worker, counted=counted
        )
        if noise is not None and counted is not None:
            raise ValueError("noise changes bits, and voxels that were made before have none")
        self.seed = seed
        self.noise = noise
        self._crops = ((0, crop_size), *later_crops)
        self._lengths = ((0, clip_length), *later_lengths)
        self._longest = max(length for _, length in self._lengths)
        for sequence in self.sequences:
            for _, size in self._crops:
                _check_crop(sequence, size)
        self._places = _clip_places(self.sequences, self._longest)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: ClipKey) -> Clip | RawClip:
        return self._given(self.read(key))

    def read(self, key: ClipKey) -> RawClip:
        """Return a sample as it lies in the files, and how it is to be flipped."""
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        which, start = self._places[index]
        sequence = self.sequences[which]
        window = _random_window(sequence, self.crop_at(epoch), rng)
        turns = [int(wanted) for wanted in rng.random(4) < 0.5]
        length = self.length_at(epoch)
        first = start + (int(rng.integers(self._longest - length + 1)) if length < self._longest else 0)
        frames = range(first, first + length)
        read = self._recorded if self.noise is None else NoisyReader(self.noise, rng).read
        return _read_clip(sequence, frames, window, turns=turns, read=read)

    def crop_at(self, epoch: int) -> int:
        """Return the side of the crops of an epoch, in frame pixels."""
        return _at(self._crops, epoch)

    def length_at(self, epoch: int) -> int:
        """Return the frames of the samples of an epoch."""
        return _at(self._lengths, epoch)

    @property
    def sequence_of(self) -> NDArray[np.int32]:
        """The number of the sequence that each clip is of, (clips,)."""
        return self._places[:, 0]


def _at(schedule: SequenceOf[tuple[int, int]], epoch: int) -> int:
    """Return what holds in an epoch, of (first epoch, value) in rising order."""
    return [value for first, value in schedule if first <= epoch][-1]


class EvaluationPart(NamedTuple):
    """Frames ``start`` to ``stop`` of a sequence, of which those before ``keep_from`` are done already."""

    sequence: int
    start: int
    stop: int
    keep_from: int


class EvaluationClips(_Clips):
    """Whole frames in clips that cover every sequence once; the last clip of each reaches back to fill up."""

    def __init__(
        self,
        sequences: SequenceOf[Sequence],
        *,
        clip_length: int,
        num_voxel_bins: int,
        voxels_on_worker: bool = True,
        counted: CountedReader | None = None,
    ) -> None:
        super().__init__(
            sequences, num_voxel_bins=num_voxel_bins, voxels_on_worker=voxels_on_worker, counted=counted
        )
        self.parts = [
            EvaluationPart(which, *bounds)
            for which, sequence in enumerate(self.sequences)
            for bounds in _cover(sequence.num_frames, clip_length)
        ]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Clip | RawClip:
        part = self.parts[index]
        sequence = self.sequences[part.sequence]
        whole = Window(0, 0, *sequence.frame_shape)
        frames = range(part.start, part.stop)
        return self._given(_read_clip(sequence, frames, whole, read=self._recorded))


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


def _read_clip(
    sequence: Sequence,
    frames: range,
    window: Window,
    *,
    turns: SequenceOf[int] = (0, 0, 0, 0),
    read: SpikeReader = read_bits,
) -> RawClip:
    """Return a window of some frames and of their spikes."""
    ratio = spike_ratio(sequence)
    on_sensor = Window(*(value // ratio for value in window))
    bits = [read(sequence, t, on_sensor) for t in frames]
    view = View(sequence.spike_frames_per_exposure, on_sensor.width, bits[0].first_bit, *turns)
    return RawClip(
        blurry=torch.from_numpy(np.stack([sequence.read_blurry(t, window) for t in frames])),
        spikes=torch.from_numpy(np.stack([exposure.packed for exposure in bits])),
        sharp=torch.from_numpy(np.stack([sequence.read_sharp(t, window) for t in frames])),
        view=torch.tensor(view),
    )
