"""How a clip's tokens are laid out in attention windows: indices and masks, made once per shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deblurkit.models.vrt.constants import once_per_shape

Triple = tuple[int, int, int]

# Added to the score of tokens that the cyclic shift has brought together. The published network adds -100,
# whose exponential is a denormal number in float32: equal to this to 43 digits, and many times slower.
MASKED = -math.inf


@dataclass(frozen=True)
class WindowLayout:
    """Where the tokens of B clips of D x H x W go when they are cut into N windows of L tokens.

    Windows whose tokens must not all see each other are put behind one another by the kind of their mask, so
    that a kind is one call with one mask; the order of the windows changes nothing else.

    Attributes:
        window: the window used, at most as large as the clip on every axis.
        num_windows: N, of all clips.
        index: (N * L,) int32, row of ``tokens.flatten(0, 3)`` of every place in the windows; 0 for padding.
        inverse: (B * D * H * W,) int32, place of every token.
        padding: places that hold no token, or None.
        starts: first window of every kind, and N at the end.
        masks: (kinds, L, L) float32, 0 or MASKED.
        frame_starts, frame_masks: the same for the tokens of one frame of a window of two, (kinds, L/2, L/2).
    """

    window: Triple
    num_windows: int
    index: Tensor
    inverse: Tensor
    padding: Tensor | None
    starts: tuple[int, ...]
    masks: Tensor
    frame_starts: tuple[int, ...]
    frame_masks: Tensor


def used_window(size: Triple, window: Triple, *, shifted: bool) -> tuple[Triple, Triple]:
    """Return window and shift for a clip of ``size``: on an axis that the window covers it shrinks to it."""
    axes = list(zip(size, window, strict=True))
    used = (min(axes[0]), min(axes[1]), min(axes[2]))
    shift = [w // 2 if shifted and s > w else 0 for s, w in axes]
    return used, (shift[0], shift[1], shift[2])


@once_per_shape
def window_layout(
    batch: int, size: Triple, window: Triple, *, shifted: bool, device: torch.device
) -> WindowLayout:
    """Return the layout of ``batch`` clips of ``size`` (frames, rows, columns) in windows of ``window``.

    Args:
        batch: B.
        size: D, H, W in tokens; padded at the end of each axis to a multiple of the window.
        window: wd, wh, ww in tokens.
        shifted: roll the clip by half a window on each axis first (Liu et al., arXiv:2103.14030, sec. 3.2).
        device: where the indices and masks are kept.
    """
    used, shift = used_window(size, window, shifted=shifted)
    places = _places(batch, size, used, shift)  # (B, N / B, L), -1 where there is no token
    kind, by_kind = _kinds(size, used, shift).sort(stable=True)
    regions = _regions(size, used, shift)[by_kind]  # (N / B, L)
    starts, masks = _masks(kind, regions, batch=batch)
    half = regions.shape[1] // 2
    frame_starts, frame_masks = _masks(kind // 2, regions[:, :half], batch=batch)
    flat = places[:, by_kind].transpose(0, 1).flatten()  # kind by kind, in it window by window, clip by clip
    filled = flat >= 0
    at = torch.arange(flat.numel(), dtype=torch.int32, device="cpu")
    inverse = torch.empty(batch * math.prod(size), dtype=torch.int32, device="cpu")
    inverse[flat[filled]] = at[filled]
    return WindowLayout(
        window=used,
        num_windows=batch * regions.shape[0],
        index=flat.clamp(min=0).int().to(device),
        inverse=inverse.to(device),
        padding=None if bool(filled.all()) else at[~filled].long().to(device),
        starts=starts,
        masks=masks.to(device),
        frame_starts=frame_starts,
        frame_masks=frame_masks.to(device),
    )


def _places(batch: int, size: Triple, window: Triple, shift: Triple) -> Tensor:
    """Return which token stands at every place of every window: (B, N / B, L), -1 for none."""
    tokens = torch.arange(batch * math.prod(size), device="cpu").view(batch, *size)
    short = [-s % w for s, w in zip(size, window, strict=True)]
    tokens = torch.nn.functional.pad(tokens, (0, short[2], 0, short[1], 0, short[0]), value=-1)
    tokens = tokens.roll([-s for s in shift], dims=(1, 2, 3))
    return _cut(tokens, window)


def _regions(size: Triple, window: Triple, shift: Triple) -> Tensor:
    """Return a number for every place, (N / B, L), equal where tokens were on one side of the wrap."""
    region = torch.zeros(1, 1, 1, dtype=torch.long, device="cpu")
    for axis, (s, w, moved) in enumerate(zip(size, window, shift, strict=True)):
        length = -(-s // w) * w
        at = torch.zeros(length, dtype=torch.long, device="cpu")
        if moved:
            at[length - w : length - moved] = 1
            at[length - moved :] = 2
        shape = [1, 1, 1]
        shape[axis] = length
        region = region * 3 + at.view(shape)
    return _cut(region[None], window)[0]


def _cut(grid: Tensor, window: Triple) -> Tensor:
    """Cut (B, D, H, W) into windows: (B, N / B, L)."""
    batch, depth, height, width = grid.shape
    wd, wh, ww = window
    cut = grid.view(batch, depth // wd, wd, height // wh, wh, width // ww, ww)
    return cut.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, -1, wd * wh * ww)


def _kinds(size: Triple, window: Triple, shift: Triple) -> Tensor:
    """Return a number for every window, (N / B,), equal where the masks are.

    The roll brings strangers together only in the last window of a shifted axis: one bit for each axis, that
    of the frames lowest, so that half of the number is the kind of one frame's mask.
    """
    kind = torch.zeros(1, 1, 1, dtype=torch.long, device="cpu")
    for axis, (bit, s, w, moved) in enumerate(zip((1, 2, 4), size, window, shift, strict=True)):
        last = torch.zeros(-(-s // w), dtype=torch.long, device="cpu")
        last[-1] = bit if moved else 0
        shape = [1, 1, 1]
        shape[axis] = len(last)
        kind = kind + last.view(shape)
    return kind.flatten()


def _masks(kind: Tensor, regions: Tensor, *, batch: int) -> tuple[tuple[int, ...], Tensor]:
    """Return where each kind starts, counting ``batch`` clips, and the mask of each.

    ``kind`` (N / B,) is sorted, ``regions`` (N / B, L) as of `_regions`.
    """
    _, counts = kind.unique_consecutive(return_counts=True)
    ends = [0, *counts.cumsum(0).tolist()]
    first = regions[ends[:-1]]
    hidden = first[:, :, None] != first[:, None, :]
    masks = torch.zeros(hidden.shape, device="cpu").masked_fill_(hidden, MASKED)
    return tuple(end * batch for end in ends), masks


def relative_position_index(window: Triple) -> Tensor:
    """Return the row of the bias table for every pair of tokens of a window: (L, L) int64."""
    axes = [torch.arange(length) for length in window]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)  # (3, L)
    offset = at[:, :, None] - at[:, None, :]
    wd, wh, ww = window
    rows = (offset[0] + wd - 1) * (2 * wh - 1) + offset[1] + wh - 1
    return rows * (2 * ww - 1) + offset[2] + ww - 1


@once_per_shape
def bias_rows(window: Triple, *, tokens: int, device: torch.device) -> Tensor:
    """Return the index of a shrunken window: the first ``tokens`` of the whole one's, (tokens * tokens,)."""
    with torch.device("cpu"):
        index = relative_position_index(window)
    return index[:tokens, :tokens].flatten().to(device)


def sine_encoding(height: int, width: int, channels: int) -> Tensor:
    """Return the sine encoding of the positions of a window, (1, height * width, channels) float32.

    Rows first, then columns, each with half of the channels: positions 1 to n, scaled to 2 pi, at
    geometrically falling rates (Carion et al., arXiv:2005.12872, app. A.4, normalised).
    """
    half = channels // 2
    rates = 10000 ** (2 * (torch.arange(half) // 2) / half)

    def axis(length: int) -> Tensor:
        position = torch.arange(1, length + 1) / (length + 1e-6) * (2 * math.pi)
        angles = position[:, None] / rates
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)

    rows = axis(height)[:, None].expand(height, width, half)
    columns = axis(width)[None].expand(height, width, half)
    return torch.cat([rows, columns], dim=2).reshape(1, height * width, channels)
