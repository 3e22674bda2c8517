"""Checkpoints: written whole or not at all, read without executing anything, found by their step."""

from __future__ import annotations

import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from deblurkit.errors import CheckpointError
from deblurkit.files import replaced_file
from deblurkit.training.precision import Precision
from deblurkit.units import plural

SCHEMA = "deblurkit-checkpoint/1"
_SETTINGS = ("betas", "weight_decay", "lr_factor")  # of a group: as the configuration has them now
_NAME = re.compile(r"step_(\d+)\.pt")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the file that the checkpoint of ``step`` is kept in."""
    return folder / f"step_{step:08d}.pt"


def save_checkpoint(
    path: Path,
    *,
    step: int,
    config: dict[str, Any],
    model: nn.Module,
    optimizer: Optimizer,
    precision: Precision,
    extra: dict[str, Any],
) -> None:
    """Write all that a run needs to go on exactly: weights, optimiser, scaler, random states, step.

    Args:
        path: takes the new content only when all of it is on the disk.
        step: optimiser steps that are done.
        config: the run's configuration as plain values.
        model: its weights are saved.
        optimizer: its state is saved.
        precision: its gradient scaler is saved.
        extra: what the run itself wants back, as plain values.
    """
    state = {
        "schema": SCHEMA,
        "step": step,
        "config": config,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": precision.state_dict(),
        "random": _random_states(),
        "extra": extra,
    }
    with replaced_file(path) as file:
        torch.save(state, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU.

    Raises:
        CheckpointError: if it is missing, damaged, or not one of ours.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a checkpoint file, found none")
    try:
        with zipfile.ZipFile(path) as archive:  # torch reads past a wrong checksum in silence
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} does not match its checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # torch raises whatever the damage leads to: RuntimeError, EOFError, KeyError …
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: damaged, or no checkpoint ({reason})") from error
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise CheckpointError(f"{path}: expected a checkpoint of this program ({SCHEMA}), found another file")
    return state


def restore_run(
    state: dict[str, Any], *, model: nn.Module, optimizer: Optimizer, precision: Precision
) -> None:
    """Put a loaded checkpoint's weights, optimiser and scaler back in place.

    Raises:
        CheckpointError: if they belong to another network or optimiser.
    """
    load_weights(state, model)
    settings = [{key: group[key] for key in _SETTINGS if key in group} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(state["optimizer"])
    except ValueError as error:
        raise CheckpointError(
            f"the checkpoint's optimiser state does not fit TRAIN.OPTIM: {error}"
        ) from error
    for group, now in zip(optimizer.param_groups, settings, strict=True):
        group.update(now)
    precision.load_state_dict(state["scaler"])


def load_weights(state: dict[str, Any], model: nn.Module) -> None:
    """Put a loaded checkpoint's weights into ``model``.

    Raises:
        CheckpointError: naming the first keys that do not fit.
    """
    wrong = misfits(state, model)
    if wrong:
        named = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise CheckpointError(f"the checkpoint's weights do not fit the MODEL section: {named}")
    model.load_state_dict(state["model"])


def misfits(state: dict[str, Any], model: nn.Module) -> list[str]:
    """Return the weights that only a loaded checkpoint or ``model`` has, or each in a size of its own."""
    own, saved = model.state_dict(), state["model"]
    wrong = sorted(own.keys() ^ saved.keys())
    return wrong + [key for key in sorted(own.keys() & saved.keys()) if own[key].shape != saved[key].shape]


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the step checkpoints of a folder, oldest first."""
    found = [
        (int(match.group(1)), path) for path in folder.glob("*.pt") if (match := _NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found)]


def step_of(path: Path) -> int:
    """Return the step of a checkpoint that `checkpoints_in` has found."""
    return int(path.stem.rpartition("_")[2])


def load_newest(folder: Path, *, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the newest checkpoint of ``folder`` that can be read, or None where there is none at all.

    Raises:
        CheckpointError: if there are some and all are damaged.
    """
    paths = checkpoints_in(folder)
    for path in reversed(paths):
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            warn(f"{error}; trying the one before")
    if paths:
        count = plural(len(paths), "checkpoint")
        raise CheckpointError(f"{folder}: of {count} none can be read; nothing was changed")
    return None


def remove_old(folder: Path, *, keep: int) -> None:
    """Delete all but the newest ``keep`` step checkpoints, and what killed runs left half written."""
    for path in checkpoints_in(folder)[:-keep]:
        path.unlink(missing_ok=True)
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)


def _random_states() -> dict[str, Any]:
    """Return the process's random states as tensors and plain values, which load without pickle."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": list(random.getstate()),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put the process's random states back, as ``load_checkpoint`` gave them under ``random``."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
