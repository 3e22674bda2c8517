"""Clips restored tile by tile: overlapping tiles, evenly spaced in time and space, blended where they meet.

T frames, H x W pixels, K voxel bins, h x w spike pixels; ``*`` is any leading dimensions, such as a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from deblurkit.errors import DataError, DeblurkitError

GRID = 8  # px: the networks' coarsest scale; tiles that start on it have the tokens that the whole frame has

Span: TypeAlias = tuple[int, int]  # start, stop
ModelCall: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]


class Tile(NamedTuple):
    """An extent in time and space [frames, px, px]; also by how much neighbours overlap."""

    frames: int
    height: int
    width: int

    def on_grid(self, multiple: int) -> Tile:
        """Return it with rows and columns rounded up to multiples."""
        return Tile(self.frames, *(-(-side // multiple) * multiple for side in (self.height, self.width)))


NO_OVERLAP = Tile(0, 0, 0)


class Place(NamedTuple):
    """Where a tile lies: its frames, rows and columns."""

    frames: slice
    rows: slice
    columns: slice

    def voxel_place(self, ratio: int) -> Place:
        """Return the same in spike pixels, of which each is ``ratio`` frame pixels wide."""
        rows, columns = (slice(s.start // ratio, s.stop // ratio) for s in (self.rows, self.columns))
        return Place(self.frames, rows, columns)

    def of(self, clip: Tensor) -> Tensor:
        """Return the part of (*, T, C, H, W) that lies here, a view."""
        return clip[..., self.frames, :, self.rows, self.columns]


Cut: TypeAlias = Callable[[Place], tuple[Tensor, Tensor | None]]  # a tile's blurry frames and voxels


def spans(length: int, tile: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Return the fewest spans of ``tile`` that cover ``length``, evenly spaced, with at least that overlap.

    Every start is a multiple of ``multiple``. Where the length is none, the last span is longer than the
    others by what is left, so that no tile is smaller than a network can take.

    Args:
        length: frames or pixels to cover.
        tile: of each span; a multiple of ``multiple``.
        overlap: least overlap of neighbours; below ``tile``, also when rounded up to ``multiple``, where more
            than one is needed.
        multiple: what starts are multiples of.

    Raises:
        ValueError: if such spans make no progress.
    """
    units, size, shared = length // multiple, tile // multiple, -(-overlap // multiple)
    is_one = units <= size
    if length < 1 or tile < 1 or tile % multiple or shared < 0 or (shared >= size and not is_one):
        raise ValueError(
            f"expected a tile that is a multiple of {multiple} and larger than its overlap, got a tile of"
            f" {tile} with an overlap of {overlap} for a length of {length}"
        )
    if is_one:
        return [(0, length)]
    steps = -(-(units - size) // (size - shared))
    starts = [multiple * (number * (units - size) // steps) for number in range(steps + 1)]
    return [*((start, start + tile) for start in starts[:-1]), (starts[-1], length)]


def blend_weights(covering: Sequence[Span]) -> list[Tensor]:
    """Return how much each span gives to the places it covers: float32 (length,), positive, 1 in sum.

    A linear ramp over what it shares with the span before and with the one after; 1 where it is alone.
    """
    raw = []
    for number, (start, stop) in enumerate(covering):
        weight = torch.ones(stop - start, dtype=torch.float64)
        if number and (shared := covering[number - 1][1] - start) > 0:
            weight[:shared] *= _ramp(shared)
        if number + 1 < len(covering) and (shared := stop - covering[number + 1][0]) > 0:
            weight[-shared:] *= _ramp(shared).flip(0)
        raw.append(weight)
    total = torch.zeros(covering[-1][1], dtype=torch.float64)
    for (start, stop), weight in zip(covering, raw, strict=True):
        total[start:stop] += weight
    return [(w / total[start:stop]).float() for (start, stop), w in zip(covering, raw, strict=True)]


def _ramp(length: int) -> Tensor:
    """Return a linear rise that begins above 0 and ends below 1."""
    return torch.arange(1, length + 1, dtype=torch.float64) / (length + 1)


@dataclass(frozen=True)
class TilePlan:
    """The tiles of a clip: every combination of a span in time, of rows and of columns.

    Attributes:
        ratio: frame pixels along one spike pixel; 1 without spikes.
    """

    frames: list[Span]
    rows: list[Span]
    columns: list[Span]
    ratio: int = 1

    @property
    def num_tiles(self) -> int:
        """Calls of the network."""
        return len(self.frames) * len(self.rows) * len(self.columns)

    @property
    def largest(self) -> Tile:
        """The most frames, rows and columns that any tile has."""
        return Tile(*(max(b - a for a, b in spans) for spans in (self.frames, self.rows, self.columns)))


def plan_tiles(
    num_frames: int,
    frame_shape: tuple[int, int],
    *,
    tile: Tile,
    overlap: Tile = NO_OVERLAP,
    spike_shape: tuple[int, int] | None = None,
) -> TilePlan:
    """Return the tiles that cover a clip.

    Args:
        num_frames: T.
        frame_shape: H and W.
        tile: size of a tile; rows and columns are rounded up to whole spike pixels on the networks' grid.
        overlap: least overlap of neighbours, rounded up likewise.
        spike_shape: h and w, where there are spikes.

    Raises:
        DataError: if frame and spikes are in no whole ratio.
        DeblurkitError: if the overlap leaves nothing of a tile.
    """
    multiple = grid_of(frame_shape, spike_shape)
    size, shared = tile.on_grid(multiple), overlap.on_grid(multiple)
    _check_overlap(frame_shape, size, shared, multiple=multiple)
    return TilePlan(
        frames=spans(num_frames, tile.frames, min(overlap.frames, tile.frames - 1)),
        rows=spans(frame_shape[0], size.height, shared.height, multiple),
        columns=spans(frame_shape[1], size.width, shared.width, multiple),
        ratio=1 if spike_shape is None else whole_ratio(frame_shape, spike_shape),
    )


def _check_overlap(frame_shape: tuple[int, int], tile: Tile, overlap: Tile, *, multiple: int) -> None:
    """Raise a DeblurkitError if tiles of which several are needed hold nothing but what they share."""
    sides = zip(frame_shape, tile[1:], overlap[1:], strict=True)
    if any(length // multiple > side // multiple and shared >= side for length, side, shared in sides):
        raise DeblurkitError(
            f"expected tiles larger than their overlap, got tiles of {tile.height} x {tile.width} px that"
            f" overlap by {overlap.height} x {overlap.width} px, both rounded up to multiples of {multiple};"
            " take larger tiles (--tile, TEST.TILE) or less overlap (--overlap, TEST.TILE_OVERLAP)"
        )


def grid_of(frame_shape: tuple[int, int], spike_shape: tuple[int, int] | None) -> int:
    """Return what rows and columns of tiles are multiples of: whole spike pixels on the networks' grid.

    Raises:
        DataError: if frame and spikes are in no whole ratio.
    """
    return GRID if spike_shape is None else math.lcm(GRID, whole_ratio(frame_shape, spike_shape))


def whole_ratio(frame_shape: tuple[int, int], spike_shape: tuple[int, int]) -> int:
    """Return how many frame pixels lie along one spike pixel.

    Raises:
        DataError: if that is no whole number, the same for rows and columns.
    """
    ratio = frame_shape[0] // spike_shape[0]
    if ratio < 1 or (ratio * spike_shape[0], ratio * spike_shape[1]) != tuple(frame_shape):
        raise DataError(
            f"expected frames of 1, 2, 4 or another whole number of times the size of the spikes, got frames"
            f" of {frame_shape[0]}x{frame_shape[1]} and spikes of {spike_shape[0]}x{spike_shape[1]}"
        )
    return ratio


def restore_tiled(
    model_call: ModelCall,
    blurry: Tensor,
    voxels: Tensor | None = None,
    *,
    tile: Tile,
    overlap: Tile = NO_OVERLAP,
) -> Tensor:
    """Return the restored clip, made tile by tile: (*, T, 3, H, W), (*, T, K, h, w) -> (*, T, 3, H, W).

    The result is float32 on the CPU. One tile that covers everything is exactly the plain call. Tiles are
    called and added in one order, so that the same clip gives the same bits.

    Args:
        model_call: restores a tile: (*, t, 3, height, width), voxels or None -> (*, t, 3, height, width).
        blurry: the clip.
        voxels: of the clip; of another resolution than the frames, in a whole ratio.
        tile: largest tile; at the lower and the right border one may be longer by less than the grid.
        overlap: least overlap of neighbours.
    """
    plan = plan_tiles(
        blurry.shape[-4],
        (blurry.shape[-2], blurry.shape[-1]),
        tile=tile,
        overlap=overlap,
        spike_shape=None if voxels is None else (voxels.shape[-2], voxels.shape[-1]),
    )

    def cut(place: Place) -> tuple[Tensor, Tensor | None]:
        return place.of(blurry), None if voxels is None else place.voxel_place(plan.ratio).of(voxels)

    if len(plan.frames) == 1:
        return restore_window(model_call, cut, plan, plan.frames[0])
    restored = torch.empty(blurry.shape, dtype=torch.float32)
    for start, frames in restored_in_time(model_call, cut, plan):
        restored[..., start : start + frames.shape[-4], :, :, :] = frames
    return restored


def restored_in_time(
    model_call: ModelCall, cut: Cut, plan: TilePlan, *, first: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """Yield (first frame, frames) of a clip in order, as soon as no later tile adds to them.

    Holds one window of time, and of the window before what the two share. Beginning with window ``first``,
    its frames that an earlier window reaches into are not right.
    """
    blend = TimeBlend(plan.frames)
    for number, span in list(enumerate(plan.frames))[first:]:
        yield span[0], blend.add(number, restore_window(model_call, cut, plan, span))


def restore_window(model_call: ModelCall, cut: Cut, plan: TilePlan, span: Span) -> Tensor:
    """Return the frames of one window of time, blended in space: (*, t, 3, H, W) float32 on the CPU."""
    frames = slice(*span)
    weights = blend_weights(plan.rows), blend_weights(plan.columns)
    restored: Tensor | None = None
    for rows, down in zip(plan.rows, weights[0], strict=True):
        for columns, across in zip(plan.columns, weights[1], strict=True):
            tile = model_call(*cut(Place(frames, slice(*rows), slice(*columns)))).float().cpu()
            if len(plan.rows) == len(plan.columns) == 1:
                return tile
            if restored is None:
                restored = tile.new_zeros((*tile.shape[:-2], plan.rows[-1][1], plan.columns[-1][1]))
            restored[..., slice(*rows), slice(*columns)] += tile * (down[:, None] * across)
    assert restored is not None
    return restored


class TimeBlend:
    """Blends the windows of one clip in time; a frame comes out once, when its last window is in.

    Args:
        covering: the windows, in order.
    """

    def __init__(self, covering: Sequence[Span]) -> None:
        self._spans = list(covering)
        self._weights = blend_weights(self._spans)
        self._shared: Tensor | None = None  # what earlier windows give to frames that are not done

    def add(self, number: int, restored: Tensor) -> Tensor:
        """Return the frames from the start of window ``number`` to that of the next, (*, n, 3, H, W).

        They are right if every earlier window that reaches into them was added before, in order.
        """
        if len(self._spans) == 1:
            return restored
        start, stop = self._spans[number]
        weighted = restored * self._weights[number][:, None, None, None]
        if self._shared is not None:
            weighted[..., : self._shared.shape[-4], :, :, :] += self._shared
        last = number + 1 == len(self._spans)
        done = stop - start if last else min(self._spans[number + 1][0], stop) - start
        self._shared = None if last or start + done == stop else weighted[..., done:, :, :, :].clone()
        return weighted[..., :done, :, :, :]
