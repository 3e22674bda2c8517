"""Scoring a checkpoint on held-out sequences, with its spikes and without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from deblurkit.config.schema import Config
from deblurkit.data.manifest import Split
from deblurkit.errors import CheckpointError, DeblurkitError, UsageError
from deblurkit.models.pretrained import read_weights
from deblurkit.models.registry import build_model
from deblurkit.training.checkpoint import load_checkpoint, load_newest, load_weights
from deblurkit.training.held_out import held_out_part
from deblurkit.training.metrics import Protocol
from deblurkit.training.parts import pick_device
from deblurkit.training.precision import Precision
from deblurkit.training.step import takes_spikes
from deblurkit.training.tiling import Tile
from deblurkit.training.validate import FrameCount, Perceptual, SpikeInput, Validation

ABLATIONS: dict[str, SpikeInput] = {"spikes zeroed": "zeroed", "spikes shuffled": "shuffled"}


def evaluate_checkpoint(
    path: Path,
    *,
    data: Path | None = None,
    split: Split | None = None,
    device: str = "auto",
    ablate_spikes: bool = False,
    protocol: Protocol | None = None,
    lpips: str | None = None,
    lpips_weights: Path | None = None,
    tile: Tile | None = None,
    quick: bool = False,
    warn: Callable[[str], None],
    progress: FrameCount | None = None,
) -> dict[str, Validation]:
    """Return the scores of a checkpoint: ``restored`` and, if asked for, with other spikes (`ABLATIONS`).

    Args:
        path: a checkpoint, or a run's folder, whose newest checkpoint is taken.
        data: a dataset in the unified layout; the one that the run was trained on by default.
        split: ``train`` or ``test``; the run's DATA.VAL_SPLIT by default.
        device: as TRAIN.DEVICE.
        ablate_spikes: score again with every spike zero, and with the spikes of another moment.
        protocol: as TEST.PROTOCOL; the run's by default.
        lpips: measure LPIPS on this network, ``alex`` or ``vgg``.
        lpips_weights: its file of ImageNet weights; by default the one in torch's cache.
        tile: as TEST.TILE; the run's by default. Without frames (0), clips are as long as the run's.
        quick: score TEST.QUICK_SEQUENCES sequences only.
        warn: told of damaged checkpoints that were passed over.
        progress: told (frames done, frames in all), once through for each way of restoring.

    Raises:
        DeblurkitError: if the checkpoint or the data cannot be used.
    """
    on = device_asked_for(device)
    model, config = load_network(path, warn=warn)
    if ablate_spikes and not takes_spikes(model):
        raise UsageError(f"{path}: --ablate-spikes needs a network with spikes; this one was trained without")
    config = _as_asked(config, data=data, protocol=protocol, tile=tile)
    precision = Precision.from_section(config.train, on)
    distance = None if lpips is None else _lpips(lpips, lpips_weights, precision.device)
    model.to(precision.device)
    held_out = held_out_part(config, split=split)
    kinds: dict[str, SpikeInput] = {"restored": "real", **(ABLATIONS if ablate_spikes else {})}
    return {
        name: held_out.validate(
            model, precision=precision, spikes=spikes, progress=progress, quick=quick, lpips=distance
        )
        for name, spikes in kinds.items()
    }


def device_asked_for(setting: str) -> torch.device:
    """Return the device that ``--device`` names.

    Raises:
        DeblurkitError: if it is a GPU and none can be used.
    """
    if setting == "cuda" and not torch.cuda.is_available():
        raise DeblurkitError(
            "--device cuda: PyTorch finds no usable GPU; see `nvidia-smi`, or use --device cpu"
        )
    return pick_device(setting)


def _as_asked(config: Config, *, data: Path | None, protocol: Protocol | None, tile: Tile | None) -> Config:
    """Return the configuration with what the caller wants otherwise."""
    if data is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"root": data})})
    changes: dict[str, Any] = {}
    if protocol is not None:
        changes["protocol"] = protocol
    if tile is not None:
        changes["tile"] = tuple(tile) if tile.frames else tile[-2:]
        frames, *most = config.test.tile_overlap
        sides = [min(side, size // 4) for side, size in zip(most, tile[1:], strict=True)]
        changes["tile_overlap"] = (frames, *sides)
    return config.model_copy(update={"test": config.test.model_copy(update=changes)})


def _lpips(net: str, weights: Path | None, device: torch.device) -> Perceptual:
    """Return what measures LPIPS."""
    from deblurkit.training.perceptual import LPIPS_NETS, load_lpips

    known = [name for name in LPIPS_NETS if name == net]
    if not known:
        raise UsageError(f"--lpips: expected one of {', '.join(LPIPS_NETS)}, got {net}")
    return load_lpips(known[0], weights, device, key="--lpips-weights")


def load_network(path: Path, *, warn: Callable[[str], None]) -> tuple[nn.Module, Config]:
    """Return the network of a checkpoint or of a run's newest one, and the run's configuration."""
    state = _newest_of(path, warn) if path.is_dir() else _checkpoint_of(path)
    try:
        config = Config.model_validate(state["config"])
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: its configuration is of another version of deblurkit"
            f" ({'.'.join(map(str, error.errors()[0]['loc']))}: {error.errors()[0]['msg']})"
        ) from error
    model = build_model(config.model, num_voxel_bins=config.data.num_voxel_bins)
    averaged = state.get("ema")  # what the run itself validates with, where it has TRAIN.EMA_DECAY
    load_weights(state if averaged is None else {**state, "model": averaged}, model)
    return model, config


def _checkpoint_of(path: Path) -> dict[str, Any]:
    """Return a checkpoint; weights alone, which no configuration goes with, are told where they belong."""
    if not path.exists():
        raise CheckpointError(f"{path}: expected a checkpoint or the folder of a run, found none")
    try:
        return load_checkpoint(path)
    except CheckpointError as error:
        if not _holds_weights(path):
            raise
        raise CheckpointError(
            f"{path}: expected a checkpoint of a run, got weights alone; they go into a run by"
            f" `deblurkit train --set MODEL.PRETRAINED={path}`, and that run can be evaluated"
        ) from error


def _holds_weights(path: Path) -> bool:
    try:
        return bool(read_weights(path))
    except CheckpointError:
        return False


def _newest_of(folder: Path, warn: Callable[[str], None]) -> dict[str, Any]:
    for place in (folder / "checkpoints", folder):
        state = load_newest(place, warn=warn)
        if state is not None:
            return state
    raise CheckpointError(f"{folder}: expected a run's folder with checkpoints in it, found none")
