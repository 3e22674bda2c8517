"""What batches take on their way from a loader's workers to a step: bytes, before there are any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from deblurkit.config.sections.data import DataSection
from deblurkit.data.prefetch import AHEAD

IN_TRAINING = AHEAD + 2  # batches taken from the loader: two wait, a third for its place, one is in the step
IN_VALIDATION = 2  # likewise: one is being restored, and is there until the next has come


class ClipBytes(NamedTuple):
    """Bytes of the tensors of a clip, or of a batch of them, in the order of `raw.Clip`."""

    blurry: int
    spikes: int
    sharp: int

    def times(self, count: int) -> ClipBytes:
        """Return those of so many clips as one batch."""
        return ClipBytes(*(count * size for size in self))

    @property
    def total(self) -> int:
        """All tensors together."""
        return sum(self)


def ready_bytes(
    frames: int, frame_shape: Sequence[int], spike_shape: Sequence[int], *, num_voxel_bins: int
) -> ClipBytes:
    """Return the bytes of a clip as a step takes it (`raw.Clip`).

    Args:
        frames: T.
        frame_shape: rows and columns of the crop.
        spike_shape: likewise, in spike pixels.
        num_voxel_bins: K.
    """
    image, voxels = 3 * math.prod(frame_shape), 4 * num_voxel_bins * math.prod(spike_shape)
    return ClipBytes(frames * image, frames * voxels, frames * image)


def raw_bytes(
    frames: int, frame_shape: Sequence[int], spike_shape: Sequence[int], *, spike_frames: int
) -> ClipBytes:
    """Return the bytes of a clip as it is read (`raw.RawClip`), spikes as bits.

    Args:
        frames: T.
        frame_shape: rows and columns of the crop.
        spike_shape: likewise, in spike pixels.
        spike_frames: S, of an exposure.
    """
    rows, columns = spike_shape
    image, bits = 3 * math.prod(frame_shape), spike_frames * rows * ((columns + 14) // 8)
    return ClipBytes(frames * image, frames * bits, frames * image)


def batches_alive(workers: int, prefetch_factor: int, *, taken: int) -> int:
    """Return the most batches of a loader that are there at a time.

    Args:
        workers: of the loader; without any, batches do not wait.
        prefetch_factor: batches that each keeps ready, what it is making among them.
        taken: batches that the main process holds.
    """
    return workers * prefetch_factor + taken if workers else 0


def largest_clip(section: DataSection) -> tuple[int, int]:
    """Return the frames of the longest and the side [px] of the largest clip of the schedules of training."""
    return (
        max(length for _, length in section.clips_by_epoch),
        max(side for _, side in section.crops_by_epoch),
    )


def voxels_on_worker(section: DataSection, device_kind: str) -> bool:
    """Return whether a clip's voxels are made where it is read.

    By default a GPU makes them itself: bits cross the bus, a tenth of the bytes. On a CPU the workers do.
    """
    if section.voxels_on == "auto":
        return device_kind == "cpu"
    return section.voxels_on == "worker"
