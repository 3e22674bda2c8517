"""Restoring what has no sharp frames: pictures or a video in, PNG frames out, within a bound on memory."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from deblurkit.config.schema import Config
from deblurkit.data.frames import Frame
from deblurkit.data.inputs import Exposures, Input, exposures_of_recording, open_input
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.errors import DataError, UsageError
from deblurkit.files import write_image
from deblurkit.models.registry import smallest_clip
from deblurkit.training.evaluate import device_asked_for, load_network
from deblurkit.training.interrupt import InterruptedRun
from deblurkit.training.precision import Precision
from deblurkit.training.restored_folder import begin, pyav, record_of, write_video
from deblurkit.training.step import takes_spikes
from deblurkit.training.tile_size import (
    FRAME_BYTES,
    RESERVE,
    fitting_tile,
    measure_cost,
    peak_bytes,
    resident_bytes,
)
from deblurkit.training.tiling import Place, Tile, TilePlan, plan_tiles, restored_in_time, whole_ratio
from deblurkit.units import GIB

CPU_MEMORY_GIB = 4.0  # memory is given, not taken
GPU_SHARE = 0.8  # of what is free
SMALL = 128 * 128  # px: frames that are not worth measuring for
OVERLAP = 24  # px: what VRT was tested with, on the grid

SpikesUsed = Literal["recorded", "zeroed", "none"]
Count = Callable[[int, int], None]


@dataclass(frozen=True)
class SpikeFile:
    """A recording for frames that come without one.

    Attributes:
        geometry: rows and columns of a ``.dat`` that no config.yaml describes.
        per_frame: spike frames of an exposure; by default the whole recording, divided evenly.
    """

    path: Path
    geometry: SpikeGeometry | None = None
    per_frame: int | None = None


@dataclass(frozen=True)
class Restoration:
    """What was restored, the content of ``restore.json`` and of ``--json``.

    Attributes:
        frames: in the folder now.
        restored: of them, by this call; the others were there.
        tile: frames, rows and columns of a tile.
        tiles: calls of the network that all frames take.
        peak_bytes: most memory that the process has had, on a GPU the GPU's.
    """

    output: str
    frames: int
    restored: int
    height: int
    width: int
    tile: Tile
    overlap: Tile
    tiles: int
    spikes: SpikesUsed
    device: str
    seconds: float
    peak_bytes: int
    video: str | None


def restore(
    checkpoint: Path,
    source: Path,
    *,
    output: Path,
    spikes: SpikeFile | None = None,
    no_spikes: bool = False,
    tile: Tile | None = None,
    overlap: Tile | None = None,
    memory_gib: float | None = None,
    device: str = "auto",
    video: bool = False,
    warn: Callable[[str], None],
    progress: Count | None = None,
) -> Restoration:
    """Restore the frames of ``source`` into PNGs of the same names in ``output``, and return what was done.

    Args:
        checkpoint: a checkpoint, or a run's folder.
        source: a folder of pictures, a video, or a sequence of a prepared dataset.
        output: a folder that is empty, does not exist, or holds the first part of the same work.
        spikes: a recording of the frames; a sequence of a dataset has its own.
        no_spikes: give a network that takes spikes none (all zero) where there are none.
        tile: of at most this size; 0 frames means as many as the network was trained on.
        overlap: least overlap of tiles; a negative number of frames means a third of a window, at most 2.
        memory_gib: bound on the process's memory (on a GPU the GPU's), from which the tile follows if none
            is given.
        device: as TRAIN.DEVICE.
        video: write `VIDEO` as well.
        warn: told of what a user should know.
        progress: told (tiles done, tiles in all).

    Raises:
        DeblurkitError: for anything that the user can mend. Frames that were done before are whole.
    """
    began = time.perf_counter()
    on = device_asked_for(device)
    if video:
        pyav()  # missing after hours of work would be late
    model, config = load_network(checkpoint, warn=warn)
    frames = open_input(source)
    given = _spikes_for(model, frames, spikes, source=source, no_spikes=no_spikes, warn=warn)
    precision = Precision.from_section(config.train, on)
    work = _Work(model.to(precision.device).eval(), config, precision, frames, given)
    asked = {
        "CHECKPOINT": str(checkpoint.resolve()),
        "weights": _fingerprint(model),
        "INPUT": str(source.resolve()),
        "frames": [len(frames.names), *frames.shape],
        "--spikes": None if spikes is None else [str(spikes.path.resolve()), spikes.per_frame],
        "--no-spikes": no_spikes,
        "--tile": tile,
        "--overlap": overlap,
        "--memory": memory_gib,
        "--device": str(precision.device),
    }
    before = record_of(output, asked)
    plan = work.plan(tile, overlap, memory_gib, chosen=None if before is None else before["tile"])
    begin(output, {**asked, "tile": plan.tile, "overlap": plan.overlap})
    restored = work.restore_to(output, plan.tiles, progress)
    path = write_video(output, frames) if video else None
    return Restoration(
        output=str(output),
        frames=len(frames.names),
        restored=restored,
        height=frames.shape[0],
        width=frames.shape[1],
        tile=plan.tile,
        overlap=plan.overlap,
        tiles=plan.tiles.num_tiles,
        spikes="recorded" if given is not None else "zeroed" if takes_spikes(model) else "none",
        device=str(precision.device),
        seconds=round(time.perf_counter() - began, 3),
        peak_bytes=_peak(precision.device),
        video=None if path is None else str(path),
    )


def _spikes_for(
    model: nn.Module,
    frames: Input,
    spikes: SpikeFile | None,
    *,
    source: Path,
    no_spikes: bool,
    warn: Callable[[str], None],
) -> Exposures | None:
    """Return the spikes that the network is to see; None where it takes none, or all zero."""
    if not takes_spikes(model):
        if spikes is not None:
            raise UsageError("--spikes: this network was trained without spikes (MODEL.USE_SPIKE=false)")
        return None
    if no_spikes:
        if spikes is not None:
            raise UsageError("--spikes and --no-spikes: give one of them")
        warn("--no-spikes: the network was trained with spikes and sees none; expect worse frames")
        return None
    if spikes is not None:
        return exposures_of_recording(
            spikes.path, len(frames.names), geometry=spikes.geometry, per_frame=spikes.per_frame
        )
    if frames.spikes is None:
        raise DataError(
            f"{source}: comes without spikes, and this network was trained with them; give the recording by"
            " --spikes FILE, or --no-spikes to see what it makes of the frames alone"
        )
    return frames.spikes


@dataclass(frozen=True)
class _Plan:
    tile: Tile
    overlap: Tile
    tiles: TilePlan


class _Work:
    """A network, what it restores, and how."""

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
        self._check_size()

    def _check_size(self) -> None:
        have = (len(self._frames.names), *self._frames.shape)
        if any(size < needed for size, needed in zip(have, self._least, strict=True)):
            wanted, got = (" x ".join(map(str, sizes)) for sizes in (self._least, have))
            raise DataError(
                f"this network restores clips of at least {wanted} (frames x rows x columns), got {got}"
            )

    @property
    def _spike_shape(self) -> tuple[int, int] | None:
        return None if self._spikes is None else self._spikes.shape

    def plan(
        self, tile: Tile | None, overlap: Tile | None, memory_gib: float | None, *, chosen: list[int] | None
    ) -> _Plan:
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
        return _Plan(size, shared, tiles)

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
        inputs = [None if part is None else part[None].to(device) for part in (blurry, voxels)]
        with self._precision.autocast():
            return self._model(*inputs)[0].float().cpu()

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


def _as_image(frame: Tensor) -> Frame:
    values = frame.mul(255).round().clamp(0, 255).byte()
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy())


def _fingerprint(model: nn.Module) -> str:
    """Return a number of the weights: a run's folder has other ones tomorrow."""
    digest = hashlib.sha256()
    for weights in model.state_dict().values():
        digest.update(weights.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def as_json(result: Restoration) -> str:
    """Return a restoration as a JSON document."""
    return json.dumps(asdict(result), indent=2, ensure_ascii=False)
