"""Scoring a checkpoint on held-out sequences, with its spikes and without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from deblurkit.config.schema import Config
from deblurkit.data.manifest import Split
from deblurkit.errors import CheckpointError, DataError, DeblurkitError, UsageError
from deblurkit.models.pretrained import read_weights
from deblurkit.models.registry import build_model
from deblurkit.training import out_of_memory
from deblurkit.training.checkpoint import load_checkpoint, load_newest, load_weights
from deblurkit.training.distributed import joined, ranks_of_environment, told_of_lost_peers
from deblurkit.training.held_out import HeldOut, held_out_part
from deblurkit.training.metrics import Protocol
from deblurkit.training.parts import pick_device
from deblurkit.training.precision import Precision
from deblurkit.training.step import takes_spikes
from deblurkit.training.tiling import Tile
from deblurkit.training.validate import FrameCount, Lpips, SpikeInput, Validation

ZEROED, SHUFFLED = "spikes zeroed", "spikes shuffled"
ABLATIONS: dict[str, SpikeInput] = {ZEROED: "zeroed", SHUFFLED: "shuffled"}


@dataclass(frozen=True)
class Evaluation:
    """What was scored, and how well.

    Attributes:
        checkpoint: that was asked for: a file, or a run's folder.
        step: of the checkpoint that was taken.
        data: root of the dataset.
        split: of it.
        results: a validation by what was restored with: ``restored`` and, if asked for, `ABLATIONS`.
    """

    checkpoint: Path
    step: int
    data: Path
    split: Split
    results: dict[str, Validation]


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
) -> Evaluation:
    """Return the scores of a checkpoint, and what they are of.

    Where ``torchrun`` has set the environment, the processes share the work and all return the same.

    Args:
        path: a checkpoint, or a run's folder, whose newest checkpoint is taken.
        data: a dataset in the unified layout; the one that the run was trained on by default.
        split: ``train`` or ``test``; the run's DATA.VAL_SPLIT by default.
        device: as TRAIN.DEVICE.
        ablate_spikes: score again with every spike zero, and with the spikes of another moment; the latter is
            left out, with a warning, where clips have one frame.
        protocol: as TEST.PROTOCOL; the run's by default.
        lpips: measure LPIPS on this network, ``alex`` or ``vgg``.
        lpips_weights: its file of ImageNet weights; by default the one in torch's cache.
        tile: as TEST.TILE; the run's by default. Without frames (0), clips are as long as the run's.
        quick: score TEST.QUICK_SEQUENCES sequences only.
        warn: told of damaged checkpoints that were passed over.
        progress: told (frames done, frames in all) of this process, once through for each way of restoring.

    Raises:
        DeblurkitError: if the checkpoint or the data cannot be used.
    """
    ranks = ranks_of_environment()
    on = device_asked_for(device, local_rank=ranks.local_rank)
    model, config, step = load_network(path, warn=warn)
    if ablate_spikes and not takes_spikes(model):
        raise UsageError(f"{path}: --ablate-spikes needs a network with spikes; this one was trained without")
    config = _as_asked(config, data=data, protocol=protocol, tile=tile)
    precision = Precision.from_section(config.train, on)
    held_out = held_out_part(config, split=split)
    kinds = _kinds(held_out, ablate_spikes=ablate_spikes, warn=warn)
    with (
        told_of_lost_peers(ranks),
        joined(ranks, timeout_minutes=config.train.rank_timeout_minutes, device=precision.device.type),
        out_of_memory.explained(config, device=precision.device, advice=lambda: _more_memory(config)),
    ):
        distance = None if lpips is None else _lpips(lpips, lpips_weights, precision.device, held_out)
        model.to(precision.device)
        results = {
            name: held_out.validate(
                model,
                precision=precision,
                spikes=spikes,
                progress=progress,
                ranks=ranks,
                quick=quick,
                lpips=distance,
            )
            for name, spikes in kinds.items()
        }
    return Evaluation(path, step, config.data.root, split or config.data.val_split, results)


def _kinds(held_out: HeldOut, *, ablate_spikes: bool, warn: Callable[[str], None]) -> dict[str, SpikeInput]:
    """Return the ways of restoring by name; shuffling changes nothing where clips have one frame."""
    kinds: dict[str, SpikeInput] = {"restored": "real"}
    if not ablate_spikes:
        return kinds
    kinds |= ABLATIONS
    if not held_out.can_shuffle:
        warn(
            "--ablate-spikes: spikes cannot be shuffled in clips of one frame (DATA.CLIP_LEN); longer ones:"
            " --tile FRAMESxROWSxCOLUMNS"
        )
        del kinds[SHUFFLED]
    return kinds


def _more_memory(config: Config) -> list[str]:
    """Return what to do where the memory does not suffice for whole frames, or for these tiles."""
    tile, frames = config.test.tile, config.data.clip_len
    if tile is None:
        told, smaller = "whole frames were", (frames, 256, 256)
    else:
        told = f"tiles of {' x '.join(map(str, tile))} were"
        rows, columns = (max(16, side // 2 // 8 * 8) for side in tile[-2:])
        smaller = (tile[0] if len(tile) == 3 else frames, rows, columns)
    return [
        f"{told} restored: take smaller tiles, such as --tile {'x'.join(map(str, smaller))}, and name them"
        " with the scores, which differ a little"
    ]


def device_asked_for(setting: str, *, local_rank: int = 0) -> torch.device:
    """Return the device that ``--device`` names; each rank's own GPU.

    Raises:
        DeblurkitError: if it is a GPU and none can be used.
    """
    if setting == "cuda" and not torch.cuda.is_available():
        raise DeblurkitError(
            "--device cuda: PyTorch finds no usable GPU; see `nvidia-smi`, or use --device cpu"
        )
    return pick_device(setting, local_rank=local_rank)


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


def _lpips(net: str, weights: Path | None, device: torch.device, held_out: HeldOut) -> Lpips:
    """Return what measures LPIPS on these frames."""
    from deblurkit.training.perceptual import LPIPS_NETS, load_lpips

    known = [name for name in LPIPS_NETS if name == net]
    if not known:
        raise UsageError(f"--lpips: expected one of {', '.join(LPIPS_NETS)}, got {net}")
    shape, least = held_out.clips.sequences[0].frame_shape, LPIPS_NETS[known[0]].least_side
    if min(shape) < least:
        raise DataError(
            f"--lpips {net}: needs frames of at least {least} x {least} px, got {shape[0]} x {shape[1]}"
        )
    return Lpips(net, load_lpips(known[0], weights, device, option="--lpips-weights PATH"))


def load_network(path: Path, *, warn: Callable[[str], None]) -> tuple[nn.Module, Config, int]:
    """Return the network of a checkpoint or of a run's newest one, the run's configuration, and the step."""
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
    return model, config, int(state["step"])


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
