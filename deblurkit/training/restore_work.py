"""What is restored, by which network, in which tiles; and frames that appear when they are whole."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deblurkit.config.schema import Config
from deblurkit.data.frames import Frame
from deblurkit.data.inputs import Exposures, Input
from deblurkit.errors import DataError, DeblurkitError, UsageError
from deblurkit.files import write_image
from deblurkit.models.registry import smallest_clip
from deblurkit.training.interrupt import InterruptedRun
from deblurkit.training.precision import Precision
from deblurkit.training.step import takes_spikes
from deblurkit.training.tile_size import (
    FRAME_BYTES,
    RESERVE,
    fitting_tile,
    measure_cost,
    peak_bytes,
    resident_bytes,
)
from deblurkit.training.tiling import (
    Place,
    Tile,
    TilePlan,
    grid_of,
    plan_tiles,
    restored_in_time,
    whole_ratio,
)
from deblurkit.units import GIB

CPU_MEMORY_GIB = 4.0  # memory is given, not taken
GPU_SHARE = 0.8  # of what is free
SMALL = 128 * 128  # px: frames that are not worth measuring for
OVERLAP = 24  # px: what VRT was tested with, on the grid

Count = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """The tiles of a restoration, and what they follow from.

    Attributes:
        tile: as it is asked of `plan_tiles`.
        overlap: likewise.
    """

    tile: Tile
    overlap: Tile
    tiles: TilePlan


class RestoreWork:
    """A network, what it restores, and how.

    Args:
        model: in the mode of validation; on the device of ``precision`` before it is called.
        config: of the run that has trained it.
        precision: autocast and device.
        frames: to restore.
        spikes: of the frames; None where the network takes none, or sees all zero.

    Raises:
        DataError: if the frames are too few or too small for the network.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Config,
        precision: Precision,
        frames: Input,
        spikes: Exposures | None,
    ) -> None:
        self._model = model
        self._precision = precision
        self._frames = frames
        self._spikes = spikes
        self._bins = config.data.num_voxel_bins if takes_spikes(model) else 0
        self._least = smallest_clip(config.model)
        self._clip_length = config.data.clip_len
        self._window: tuple[int, Frame] = (0, np.empty((0, 0, 0, 3), dtype=np.uint8))
        self._tile: Tile | None = None  # that the network restores, or has restored last
        self._check_size()

    def _check_size(self) -> None:
        have = (len(self._frames.names), *self._frames.shape)
        if any(size < needed for size, needed in zip(have, self._least, strict=True)):
            wanted, got = (" x ".join(map(str, sizes)) for sizes in (self._least, have))
            raise DataError(
                f"this network restores clips of at least {wanted} (frames x rows x columns), got {got}"
            )

    @property
    def _grid(self) -> int:
        return grid_of(self._frames.shape, self._spike_shape)

    @property
    def _spike_shape(self) -> tuple[int, int] | None:
        return None if self._spikes is None else self._spikes.shape

    def plan(
        self, tile: Tile | None, overlap: Tile | None, memory_gib: float | None, *, chosen: list[int] | None
    ) -> Plan:
        """Return the tiles: those that are asked for, those chosen before, or those that fit the memory."""
        frames = (tile.frames if tile is not None else 0) or self._clip_length
        frames = min(max(frames, self._least[0]), len(self._frames.names))
        shared = overlap or Tile(-1, OVERLAP, OVERLAP)
        if shared.frames < 0:  # more than a third of a short window would restore every frame many times
            shared = shared._replace(frames=min(2, frames // 3))
        if tile is not None:
            size = tile._replace(frames=frames)
            if overlap is None:
                shared = shared._replace(
                    height=min(OVERLAP, size.height // 4), width=min(OVERLAP, size.width // 4)
                )
            self._check_tile(size, shared)
            size = size.on_grid(self._grid)
        elif chosen is not None:
            size = Tile(*chosen)
        else:
            size = self._fitting(frames, shared, memory_gib)
        tiles = plan_tiles(
            len(self._frames.names),
            self._frames.shape,
            tile=size,
            overlap=shared,
            spike_shape=self._spike_shape,
        )
        return Plan(size, shared, tiles)

    def _check_tile(self, tile: Tile, overlap: Tile) -> None:
        if any(side < least for side, least in zip(tile, self._least, strict=True)):
            wanted, got = (" x ".join(map(str, sizes)) for sizes in (self._least, tile))
            raise UsageError(f"--tile: expected at least {wanted} (frames x rows x columns), got {got}")
        if any(2 * shared > side for side, shared in zip(tile[1:], overlap[1:], strict=True)):
            raise UsageError(
                f"--overlap: expected at most half of the tile of {tile.height} x {tile.width} px, got"
                f" {overlap.height} x {overlap.width}"
            )

    def _fitting(self, frames: int, overlap: Tile, memory_gib: float | None) -> Tile:
        """Return the tile that fits the bound, from what two small tiles take."""
        if math.prod(self._frames.shape) <= SMALL:
            return Tile(frames, *self._frames.shape)
        device = self._precision.device
        if device.type == "cuda":
            free = torch.cuda.mem_get_info(device)[0]
            bound = GPU_SHARE * free if memory_gib is None else memory_gib * GIB
        else:
            bound = (CPU_MEMORY_GIB if memory_gib is None else memory_gib) * GIB
        cost = measure_cost(
            lambda tile: peak_bytes(lambda: self._try(tile), device),
            frames=frames,
            least=(self._least[1], self._least[2]),
            multiple=self._grid,
        )
        if device.type == "cuda":
            held = float(torch.cuda.memory_reserved(device))
        else:
            held = resident_bytes() + RESERVE + FRAME_BYTES * frames * math.prod(self._frames.shape)
        return fitting_tile(
            cost,
            self._frames.shape,
            frames=frames,
            overlap=overlap,
            least=(self._least[1], self._least[2]),
            budget_bytes=bound - held,
            spike_shape=self._spike_shape,
        )

    def _try(self, tile: Tile) -> None:
        """Restore a tile, of the first frames' spikes where they reach that far, to see what it takes."""
        place = Place(slice(0, tile.frames), slice(0, tile.height), slice(0, tile.width))
        blurry = torch.zeros(tile.frames, 3, tile.height, tile.width)
        fits = tile.height <= self._frames.shape[0] and tile.width <= self._frames.shape[1]
        if self._bins and self._spikes is not None and fits:
            ratio = whole_ratio(self._frames.shape, self._spikes.shape)
            self._call(blurry, self._spikes.voxels(*place.voxel_place(ratio), num_bins=self._bins))
        else:
            self._call(blurry, self._zeros(tile) if self._bins else None)

    def _zeros(self, tile: Tile) -> Tensor:
        ratio = 2 if self._spikes is None else self._frames.shape[0] // self._spikes.shape[0]
        return torch.zeros(tile.frames, self._bins, -(-tile.height // ratio), -(-tile.width // ratio))

    @torch.inference_mode()
    def _call(self, blurry: Tensor, voxels: Tensor | None) -> Tensor:
        device = self._precision.device
        self._tile = Tile(blurry.shape[0], blurry.shape[-2], blurry.shape[-1])
        inputs = [None if part is None else part[None].to(device) for part in (blurry, voxels)]
        with self._precision.autocast():
            return self._model(*inputs)[0].float().cpu()

    def more_memory(self) -> list[str]:
        """Return what to do where the memory did not suffice, in lines."""
        if self._tile is None:
            return ["the network alone does not fit: --device cpu, or another GPU (CUDA_VISIBLE_DEVICES)"]
        frames, *sides = self._tile
        halves = (
            max(least, side // 2 // 8 * 8, 8) for least, side in zip(self._least[1:], sides, strict=True)
        )
        return [
            f"a tile of {' x '.join(map(str, self._tile))} (frames x rows x columns) was restored: take a"
            f" smaller one, such as --tile {'x'.join(map(str, (frames, *halves)))}, or have it follow from a"
            " bound, --memory GIB",
            "frames that are done are whole; other tiles need another --output",
        ]

    def restore_to(self, output: Path, plan: TilePlan, progress: Count | None) -> int:
        """Write the frames that are not in ``output`` yet; return how many."""
        names = self._frames.names
        missing = [number for number, name in enumerate(names) if not (output / f"{name}.png").is_file()]
        if not missing:
            return 0
        first = next(number for number, span in enumerate(plan.frames) if span[1] > missing[0])
        each = len(plan.rows) * len(plan.columns)
        done = first * each

        def call(blurry: Tensor, voxels: Tensor | None) -> Tensor:
            nonlocal done
            restored = self._call(blurry, voxels)
            done += 1
            if progress is not None:
                progress(done, plan.num_tiles)
            return restored

        def cut(place: Place) -> tuple[Tensor, Tensor | None]:
            return self._cut(place, plan.ratio)

        written = 0
        try:
            for start, frames in restored_in_time(call, cut, plan, first=first):
                for offset, frame in enumerate(frames):
                    path = output / f"{names[start + offset]}.png"
                    if start + offset >= missing[0] and not path.is_file():
                        _require_finite(frame, path)
                        write_image(path, _as_image(frame))
                        written += 1
        except KeyboardInterrupt:
            there = len(names) - len(missing) + written
            raise InterruptedRun(
                f"stopped; {there} of {len(names)} frames are in {output}, each of them whole; the same"
                " command goes on from there",
                signal.SIGINT,
            ) from None
        return written

    def _cut(self, place: Place, ratio: int) -> tuple[Tensor, Tensor | None]:
        """Return a tile's frames and voxels; the whole frames of its window are read once."""
        start, stop = place.frames.start, place.frames.stop
        if self._window[0] != start or len(self._window[1]) != stop - start:
            self._window = (start, self._frames.read(start, stop))
        part = self._window[1][:, place.rows, place.columns]
        blurry = torch.from_numpy(np.ascontiguousarray(part)).permute(0, 3, 1, 2).float().div_(255)
        if not self._bins:
            return blurry, None
        if self._spikes is None:
            return blurry, self._zeros(Tile(*blurry.shape[:1], *blurry.shape[-2:]))
        on_sensor = place.voxel_place(ratio)
        return blurry, self._spikes.voxels(*on_sensor, num_bins=self._bins)


def _require_finite(frame: Tensor, path: Path) -> None:
    """Raise a DeblurkitError where values are no numbers: as eight bits they would be black, or white."""
    if not bool(frame.isfinite().all()):
        raise DeblurkitError(
            f"{path}: not written: the network makes NaN or infinite values of this frame; those before it"
            " are whole. Try another checkpoint of the run (best.pt); float16 (TRAIN.AMP_DTYPE) may be too"
            " narrow for it"
        )


def _as_image(frame: Tensor) -> Frame:
    values = frame.mul(255).round().clamp(0, 255).byte()
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy())
