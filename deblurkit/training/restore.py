"""Restoring what has no sharp frames: pictures or a video in, PNG frames out, within a bound on memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from deblurkit.data.inputs import Exposures, Input, exposures_of_recording, open_input
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.errors import DataError, UsageError
from deblurkit.models.fingerprint import fingerprint
from deblurkit.training import out_of_memory
from deblurkit.training.distributed import ranks_of_environment
from deblurkit.training.evaluate import device_asked_for, load_network
from deblurkit.training.precision import Precision
from deblurkit.training.restore_work import Count, RestoreWork
from deblurkit.training.restored_folder import begin, pyav, record_of, write_video
from deblurkit.training.step import takes_spikes
from deblurkit.training.tiling import Tile

SpikesUsed = Literal["recorded", "zeroed", "none"]


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
        tile: most frames, rows and columns of a tile.
        overlap: least overlap that was asked for.
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
        memory_gib: bound on the process's memory (on a GPU the GPU's), from which the tile follows; not
            together with ``tile``.
        device: as TRAIN.DEVICE.
        video: write `VIDEO` as well.
        warn: told of what a user should know.
        progress: told (tiles done, tiles in all).

    Raises:
        DeblurkitError: for anything that the user can mend. Frames that were done before are whole.
    """
    began = time.perf_counter()
    _check_alone()
    if tile is not None and memory_gib is not None:
        raise UsageError("--tile and --memory: give one of them; the tile follows from the memory")
    on = device_asked_for(device)
    if video:
        pyav()  # missing after hours of work would be late
    model, config, _ = load_network(checkpoint, warn=warn)
    frames = open_input(source)
    given = _spikes_for(model, frames, spikes, source=source, no_spikes=no_spikes, warn=warn)
    precision = Precision.from_section(config.train, on)
    asked = {
        "CHECKPOINT": str(checkpoint.resolve()),
        "weights": fingerprint(model),
        "INPUT": str(source.resolve()),
        "frames": [len(frames.names), *frames.shape],
        "--spikes": None if spikes is None or given is None else _identity(spikes, given),
        "--no-spikes": no_spikes,
        "--tile": tile,
        "--overlap": overlap,
        "--memory": memory_gib,
        "--device": str(precision.device),
    }
    before = record_of(output, asked)
    work = RestoreWork(model.eval(), config, precision, frames, given)
    with out_of_memory.explained(config, device=precision.device, advice=work.more_memory):
        model.to(precision.device)
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
        tile=plan.tiles.largest,
        overlap=plan.overlap,
        tiles=plan.tiles.num_tiles,
        spikes="recorded" if given is not None else "zeroed" if takes_spikes(model) else "none",
        device=str(precision.device),
        seconds=round(time.perf_counter() - began, 3),
        peak_bytes=_peak(precision.device),
        video=None if path is None else str(path),
    )


def _check_alone() -> None:
    """Raise a UsageError under torchrun: every process would restore everything, into one folder."""
    processes = ranks_of_environment().world_size
    if processes > 1:
        raise UsageError(
            f"restore: works in one process, got {processes} (WORLD_SIZE); start it without torchrun, or one"
            " for each GPU by CUDA_VISIBLE_DEVICES, with a part of the frames and a folder of its own"
        )


def _identity(spikes: SpikeFile, given: Exposures) -> list[Any]:
    """Return what tells a recording, and how it is read, from any other."""
    found = spikes.path.stat()
    geometry = "x".join(map(str, given.shape))
    return [str(spikes.path.resolve()), geometry, spikes.per_frame, found.st_size, found.st_mtime_ns]


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
        if no_spikes:
            raise UsageError(
                "--no-spikes: this network was trained without spikes (MODEL.USE_SPIKE=false); leave it out"
            )
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


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def as_json(result: Restoration) -> str:
    """Return a restoration as a JSON document."""
    return json.dumps(asdict(result), indent=2, ensure_ascii=False)
