"""Images and voxels from spikes: texture from playback, texture from interval, box bins."""

from __future__ import annotations

import functools
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Spikes: TypeAlias = NDArray[np.uint8]
Image: TypeAlias = NDArray[np.float32]

TfiFallback = Literal["tfp", "zero"]


def tfp(spikes: Spikes, centre: int, window: int, *, gain: float = 1.0, threshold: float = 1.0) -> Image:
    """Return texture from playback: the light that the mean rate around ``centre`` stands for, (h, w).

    A pixel fires at gain * light / threshold spikes a frame, so light = threshold / gain * mean. A longer
    window has less noise (about 1 / window) and more motion blur (about window).

    Args:
        spikes: uint8 (T, h, w) of 0 and 1.
        centre: the frame in the middle of the window.
        window: frames to average; cut off where it reaches beyond the recording.
        gain: charge that light 1 adds in one frame.
        threshold: charge at which a pixel fires.
    """
    _check_centre(spikes, centre)
    if window < 1:
        raise ValueError(f"a window of at least one frame expected, got {window}")
    start = centre - window // 2
    chosen = spikes[max(start, 0) : start + window]
    return (chosen.mean(axis=0, dtype=np.float32) * np.float32(threshold / gain)).astype(np.float32)


def tfi(
    spikes: Spikes,
    centre: int,
    *,
    search: int = 50,
    fallback: TfiFallback = "tfp",
    gain: float = 1.0,
    threshold: float = 1.0,
) -> Image:
    """Return texture from interval, (h, w): threshold / gain over the gap between spikes around ``centre``.

    The gap runs from the last spike at or before ``centre`` to the first one after it.

    Args:
        spikes: uint8 (T, h, w) of 0 and 1.
        centre: the frame whose light is wanted.
        search: frames to look back and ahead.
        fallback: light of a pixel without a spike on both sides: ``tfp`` over the same frames, or ``zero``.
        gain: charge that light 1 adds in one frame.
        threshold: charge at which a pixel fires.
    """
    _check_centre(spikes, centre)
    if search < 1:
        raise ValueError(f"a search of at least one frame expected, got {search}")
    if fallback not in ("tfp", "zero"):
        raise ValueError(f"fallback is tfp or zero, not {fallback!r}")
    back = spikes[max(centre - search, 0) : centre + 1][::-1]
    ahead = spikes[centre + 1 : centre + 1 + search]
    if fallback == "tfp":
        light = tfp(spikes, centre, 2 * search + 1, gain=gain, threshold=threshold)
    else:
        light = np.zeros(spikes.shape[1:], dtype=np.float32)
    if not len(ahead):
        return light
    gap = back.argmax(axis=0) + ahead.argmax(axis=0) + 1
    found = back.any(axis=0) & ahead.any(axis=0)
    light[found] = np.float32(threshold / gain) / gap[found].astype(np.float32)
    return light


def voxels(spikes: Spikes, num_bins: int) -> Image:
    """Return spikes summed into exact box bins, float32 (num_bins, h, w) in [0, 1].

    Bin k covers the time from k * T / K to (k + 1) * T / K, and a frame across a border counts in both by its
    overlap: V_k = K / T * sum_t |[t, t + 1) and bin k| * S_t. The mean over bins equals the mean over
    frames for every K and T; whole-frame splitting would make neighbouring bins of a still scene differ.

    Args:
        spikes: uint8 (T, h, w) of 0 and 1.
        num_bins: K, at least 1; may exceed T.
    """
    return np.asarray(voxels_of(torch.from_numpy(np.ascontiguousarray(spikes)), num_bins).numpy())


def voxels_of(spikes: Tensor, num_bins: int) -> Tensor:
    """Return `voxels` of a tensor, uint8 (T, h, w) -> float32 (num_bins, h, w), on its device.

    Whole numbers are summed and divided once: no order of summing and no device changes a bit.
    """
    frames = spikes.shape[0]
    overlaps = torch.from_numpy(bin_overlaps(num_bins, frames)).to(spikes.device)  # (K, T)
    # PyTorch's product, because loader workers can hold it to one thread; NumPy's would start as many as the
    # machine has cores, in every worker.
    counted = overlaps @ spikes.reshape(frames, -1).to(torch.float32)  # (K, h * w)
    return divided(counted, frames).view(num_bins, *spikes.shape[1:])


def divided(counts: Tensor, frames: int) -> Tensor:
    """Return counts over a number of frames; by a tensor, as a GPU multiplies by a number's reciprocal."""
    return counts / torch.full((), frames, dtype=counts.dtype, device=counts.device)


@functools.lru_cache(maxsize=64)
def bin_overlaps(num_bins: int, num_frames: int) -> Image:
    """Return what each frame gives to each bin in parts of 1 / K of a frame, (num_bins, num_frames).

    Whole numbers as float32; the rows sum to ``num_frames``.
    """
    if num_bins < 1 or num_frames < 1:
        raise ValueError(f"at least one bin and one frame expected, got {num_bins} and {num_frames}")
    bins = np.arange(num_bins, dtype=np.int64)[:, None] * num_frames  # (K, 1)
    frames = np.arange(num_frames, dtype=np.int64)[None, :] * num_bins  # (1, T)
    overlap = np.minimum(bins + num_frames, frames + num_bins) - np.maximum(bins, frames)
    return np.maximum(overlap, 0).astype(np.float32)


def _check_centre(spikes: Spikes, centre: int) -> None:
    if not 0 <= centre < len(spikes):
        raise ValueError(f"frame {centre} is not in a recording of {len(spikes)} frames")
