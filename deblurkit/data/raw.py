"""Clips as a loader's worker reads them, and as a step takes them: made on the worker or on the device.

What a worker has to do is copy crops out of mapped files. Turning them into channels-first tensors, flipping
them and gathering the spike bits into voxels can follow wherever there is time: whole numbers are summed, so
the voxels are the same bit for bit on every device. A frame of spikes is a tenth of its voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from deblurkit.data.reconstruct import divided, voxels_of


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


class View(NamedTuple):
    """How the parts of a raw clip are to be seen, whole numbers all.

    Attributes:
        spike_frames: S, in one exposure.
        spike_width: w, columns of the crop in spike pixels.
        first_bit: of a row at which the crop begins; COUNTED where the spikes are voxels already.
        upside_down, mirrored, transposed, backwards: 0 or 1.
    """

    spike_frames: int
    spike_width: int
    first_bit: int
    upside_down: int = 0
    mirrored: int = 0
    transposed: int = 0
    backwards: int = 0


COUNTED = -1


class RawClip(NamedTuple):
    """A clip as it was read, or a batch of them with a leading B.

    Attributes:
        blurry: (T, H, W, 3) uint8 RGB.
        spikes: (T, S, h, b) uint8 bits, upright, the first pixel of eight lowest; or (T, K, h, w) uint8 or
            int16, voxels times S.
        sharp: (T, H, W, 3) uint8 RGB.
        view: (7,) int64, a `View`.
    """

    blurry: Tensor
    spikes: Tensor
    sharp: Tensor
    view: Tensor


def as_clip(raw: RawClip, num_voxel_bins: int) -> Clip:
    """Return one raw clip as a step takes it, on the device that it is on."""
    view = View(*raw.view.tolist())
    return Clip(
        blurry=_turned(raw.blurry.permute(0, 3, 1, 2), view).contiguous(),
        spikes=_turned(_voxels(raw.spikes, view, num_voxel_bins), view, bins=1).contiguous(),
        sharp=_turned(raw.sharp.permute(0, 3, 1, 2), view).contiguous(),
    )


def as_clips(raw: RawClip, num_voxel_bins: int) -> Clip:
    """Return a batch of raw clips as a step takes it."""
    views = raw.view.cpu()  # few numbers, which decide what is computed
    clips = [as_clip(RawClip(*parts), num_voxel_bins) for parts in zip(*raw[:3], views, strict=True)]
    return Clip(*(torch.stack(parts) for parts in zip(*clips, strict=True)))


def stack_raw(clips: Sequence[RawClip]) -> RawClip:
    """Return clips as a batch; exposures of fewer spike frames than the longest are filled up with none."""
    longest = max(clip.spikes.shape[1] for clip in clips)
    spikes = [F.pad(clip.spikes, (0, 0, 0, 0, 0, longest - clip.spikes.shape[1])) for clip in clips]
    return RawClip(
        blurry=torch.stack([clip.blurry for clip in clips]),
        spikes=torch.stack(spikes),
        sharp=torch.stack([clip.sharp for clip in clips]),
        view=torch.stack([clip.view for clip in clips]),
    )


def _voxels(spikes: Tensor, view: View, num_bins: int) -> Tensor:
    """Return (T, K, h, w) of the spikes of a raw clip."""
    if view.first_bit == COUNTED:
        return divided(spikes.to(torch.float32), view.spike_frames)
    columns = slice(view.first_bit, view.first_bit + view.spike_width)
    exposures = spikes[:, : view.spike_frames]
    return torch.stack([voxels_of(_unpacked(bits)[..., columns], num_bins) for bits in exposures])


def _unpacked(packed: Tensor) -> Tensor:
    """Return bits, (S, h, b) uint8, as pixels (S, h, 8 * b) of 0 and 1."""
    if packed.device.type == "cpu":
        return torch.from_numpy(np.unpackbits(packed.numpy(), axis=-1, bitorder="little"))
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return packed.unsqueeze(-1).bitwise_right_shift(places).bitwise_and(1).flatten(-2)


def _turned(frames: Tensor, view: View, *, bins: int = 0) -> Tensor:
    """Flip and turn (T, C, H, W) as ``view`` says; a clip that runs backwards has its ``bins`` run so too."""
    wanted = (view.backwards, view.backwards and bins, view.upside_down, view.mirrored)
    axes = [axis for axis, is_wanted in enumerate(wanted) if is_wanted]
    frames = frames.flip(axes) if axes else frames
    return frames.transpose(2, 3) if view.transposed else frames
