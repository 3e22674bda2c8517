"""Checkpoints: written whole or not at all, read without executing anything, found by their step.

A file vouches for itself: it is a zip archive with a CRC-32 of every entry, which is compared before anything
of it is used. A digest in a file beside it could be parted from it by a kill between the two renames.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from deblurkit.errors import CheckpointError
from deblurkit.files import give_second_name, replaced_file, write_text
from deblurkit.training.precision import Precision
from deblurkit.units import plural

SCHEMA = "deblurkit-checkpoint/2"  # 1 had the random states of one process
BEST = "best.pt"
BEST_RECORD = "best.json"
ASIDE = ".unreadable"  # added to the name of a file that a run has passed over
_SETTINGS = ("betas", "weight_decay", "lr_factor")  # of a group: as the configuration has them now
_SCHEMA = re.compile(r"deblurkit-checkpoint/(\d+)")
_VERSION = 2
_NAME = re.compile(r"step_(\d+)\.pt")
_CONTENT_ID = ".data/serialization_id"  # an entry of torch's own: hashes of the names and bytes of the others


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
    random_states: Sequence[dict[str, Any]] | None = None,
    ema: dict[str, Any] | None = None,
    guard: dict[str, Any] | None = None,
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
        random_states: of every rank in turn, as `own_random_states` gave them there; by default of this
            process alone.
        ema: averaged weights and what goes with them, as tensors and plain values; None leaves them out.
        guard: what the guard against bad steps remembers; None leaves it out.
    """
    state: dict[str, Any] = {
        "schema": SCHEMA,
        "step": step,
        "config": config,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": precision.state_dict(),
        "random": [own_random_states()] if random_states is None else list(random_states),
        "extra": extra,
    }
    optional = {"ema": ema, "guard": guard}
    state |= {key: value for key, value in optional.items() if value is not None}
    with replaced_file(path) as file:
        torch.save(state, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU.

    ``random`` has the states of every rank, in whatever version the file was written; ``ema`` and ``guard``
    are there where the run had them.

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
    schema = state.get("schema") if isinstance(state, dict) else None
    version = _SCHEMA.fullmatch(schema) if isinstance(schema, str) else None
    if version is None:
        raise CheckpointError(f"{path}: expected a checkpoint of this program ({SCHEMA}), found another file")
    if int(version[1]) > _VERSION:
        raise CheckpointError(
            f"{path}: written by a newer deblurkit ({schema}; this one reads {SCHEMA}); update deblurkit"
        )
    if isinstance(state["random"], dict):  # version 1
        state["random"] = [state["random"]]
    return state


def restore_run(
    state: dict[str, Any], *, model: nn.Module, optimizer: Optimizer, precision: Precision
) -> None:
    """Put a loaded checkpoint's weights, optimiser and scaler back in place.

    Raises:
        CheckpointError: if they belong to another network or optimiser; nothing was changed then, but the
            weights where the optimiser has other groups.
    """
    _check_optimizer(state, optimizer)
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


def _check_optimizer(state: dict[str, Any], optimizer: Optimizer) -> None:
    """Raise a CheckpointError if a checkpoint's states are those of the other optimiser.

    Both would take them up, and ask in the first step for what is not in them.
    """
    names = {name for values in state["optimizer"]["state"].values() for name in values}
    saved = "adamw" if "exp_avg" in names else "adamw8bit"  # whose names depend on the version
    own = "adamw" if isinstance(optimizer, torch.optim.AdamW) else "adamw8bit"
    if names and saved != own:
        install = "; it needs bitsandbytes, which has to be installed" if saved == "adamw8bit" else ""
        raise CheckpointError(
            f"TRAIN.OPTIM.TYPE: the checkpoint has the optimiser states of {saved}, and this run's optimiser"
            f" is {own}; go on with --set TRAIN.OPTIM.TYPE={saved}{install}, or begin a new run from its"
            " weights by MODEL.PRETRAINED"
        )


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


class Found(NamedTuple):
    """A checkpoint that was read: its file and its content."""

    path: Path
    state: dict[str, Any]


def load_newest(folder: Path, *, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the content of what `find_newest` finds."""
    found = find_newest(folder, warn=warn)
    return None if found is None else found.state


def holds_any(folder: Path) -> bool:
    """Return whether there is a checkpoint in ``folder``, whole or not: of a step, or the best one."""
    return bool(checkpoints_in(folder)) or (folder / BEST).exists()


def find_newest(folder: Path, *, warn: Callable[[str], None]) -> Found | None:
    """Return the newest checkpoint of ``folder`` that can be read, or None where there is none at all.

    ``best.pt`` is one of them: it may be whole where the files of steps are not.

    Raises:
        CheckpointError: if there are some and all are damaged.
    """
    paths = _oldest_first(folder)
    for path in reversed(paths):
        try:
            return Found(path, load_checkpoint(path))
        except CheckpointError as error:
            warn(f"{error}; trying the one before")
    if paths:
        count = plural(len(paths), "checkpoint")
        raise CheckpointError(f"{folder}: of {count} none can be read; nothing was changed")
    return None


def _oldest_first(folder: Path) -> list[Path]:
    """Return all checkpoints of a folder; ``best.pt`` is before its step's own file, or else the first."""
    paths = checkpoints_in(folder)
    if not (folder / BEST).exists():
        return paths
    best = best_of(folder)
    is_recorded = best is not None and _content_id(folder / BEST) == best.content
    step = best.step if best is not None and is_recorded else -1
    return sorted([folder / BEST, *paths], key=lambda path: step if path.name == BEST else step_of(path))


def remove_old(folder: Path, *, keep: int, step: int) -> None:
    """Delete all but the newest ``keep`` step checkpoints, and what killed runs left half written.

    The best one stays under its own name. Files of steps after ``step``, which was saved just now, were
    passed over when the run went on, as they could not be read: they are set aside and do not count.
    """
    _mend_best(folder)
    paths = checkpoints_in(folder)
    for path in [path for path in paths if step_of(path) > step]:
        path.replace(path.with_name(path.name + ASIDE))
        paths.remove(path)
    for path in paths[:-keep]:
        path.unlink(missing_ok=True)
    for path in folder.glob(".*.partial"):
        path.unlink(missing_ok=True)


class Best(NamedTuple):
    """The best checkpoint of a run so far, as ``best.json`` has it.

    Attributes:
        step: that it is of.
        psnr_db: its validation PSNR [dB].
        scored_until: the last step that was compared with it.
        content: what tells its file from any other.
        scored_by: how scores were made; those of another way do not compare. Empty where it is not known.
    """

    step: int
    psnr_db: float
    scored_until: int
    content: str
    scored_by: str = ""


def best_of(folder: Path) -> Best | None:
    """Return what is known of ``best.pt``; None where there is none, or no record of it that can be read."""
    try:
        record = json.loads((folder / BEST_RECORD).read_text(encoding="utf-8"))
        return Best(
            int(record["step"]),
            float(record["psnr_db"]),
            int(record["scored_until"]),
            str(record["content"]),
            str(record.get("scored_by", "")),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def compares(best: Best | None, scored_by: str) -> bool:
    """Return whether scores that are made in the way ``scored_by`` can be held against that of the best."""
    return best is not None and ("" in (best.scored_by, scored_by) or best.scored_by == scored_by)


def keep_best(folder: Path, path: Path, score: float, *, scored_by: str = "") -> bool:
    """Return whether a checkpoint is better than all others; if so, ``best.pt`` becomes a second name of it.

    Args:
        folder: of the run's checkpoints.
        path: a step checkpoint in it.
        score: its validation PSNR [dB]; NaN is never better.
        scored_by: how it was made; where that was another way until now, this is the first to compare.
    """
    best, step = _mend_best(folder), step_of(path)
    best = best if compares(best, scored_by) else None
    is_better = not math.isnan(score) and (best is None or score > best.psnr_db)
    # Taken again after a resume: what was damaged under one name is so under the other.
    is_better |= best is not None and (step, score) == (best.step, best.psnr_db)
    if is_better:
        best = Best(step, score, step, _content_id(path) or "", scored_by)
    elif best is not None:
        best = best._replace(scored_until=step)
    if best is not None:
        # The record first: after a kill before the file has its name, the step's own file is still there.
        _write_record(folder, best)
    if is_better:
        give_second_name(path, folder / BEST)
    return is_better


def _mend_best(folder: Path) -> Best | None:
    """Return the record of ``best.pt`` once the file is the one in the record; None where it cannot be."""
    best = best_of(folder)
    if best is None or _content_id(folder / BEST) == best.content:
        return best
    source = checkpoint_path(folder, best.step)
    if _content_id(source) != best.content:
        return None
    give_second_name(source, folder / BEST)
    return best


def _write_record(folder: Path, best: Best) -> None:
    score = best.psnr_db if math.isfinite(best.psnr_db) else str(best.psnr_db)  # equal frames: inf is no JSON
    write_text(folder / BEST_RECORD, json.dumps({**best._asdict(), "psnr_db": score}, indent=2) + "\n")


def _content_id(path: Path) -> str | None:
    """Return what a checkpoint's bytes come to by torch's own count; None where there is no whole archive."""
    with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(_CONTENT_ID):
                return archive.read(name).decode("ascii", errors="replace")
    return None


def own_random_states() -> dict[str, Any]:
    """Return this process's random states as tensors and plain values, which load without pickle.

    The GPU's is that of the current device, where CUDA is in use.
    """
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
        "python": list(random.getstate()),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
    }


def start_random_states(seed: int, *, rank: int = 0) -> None:
    """Start this process's random states from SEED, those of each rank elsewhere."""
    own = seed if rank == 0 else int(np.random.SeedSequence((seed, rank)).generate_state(1)[0])
    torch.manual_seed(own)
    random.seed(own)
    np.random.seed(own)


def restore_random_states(
    saved: Sequence[dict[str, Any]], *, rank: int = 0, world_size: int = 1, seed: int = 0
) -> str | None:
    """Put this rank's random states back; return what is not as it was, where other ranks go on.

    Args:
        saved: what ``load_checkpoint`` gave under ``random``.
        rank: of this process.
        world_size: processes that go on.
        seed: of the run; a rank that the checkpoint has no states of starts from it.
    """
    if rank < len(saved):
        _restore(saved[rank])
    else:
        start_random_states(seed, rank=rank)
    if world_size == len(saved):
        return None
    of_others = "start from SEED" if world_size > len(saved) else "are dropped"
    return (
        f"the random states of {plural(len(saved), 'process')} were saved and {world_size} go on; those from"
        f" rank {min(world_size, len(saved))} on {of_others}"
    )


def _restore(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"][0])
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
