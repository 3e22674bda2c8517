"""Where a run begins: anew, or at a checkpoint that belongs to the configuration of today."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from deblurkit.config.schema import Config, as_values
from deblurkit.config.yaml_source import value_as_yaml
from deblurkit.errors import CheckpointError, DeblurkitError
from deblurkit.models.registry import build_model
from deblurkit.training import checkpoint
from deblurkit.training.distributed import Ranks

# Keys of how data are brought in: they change no number.
OF_LOADING = (
    "DATA.ROOT",
    "DATA.USE_RAM_CACHE",
    "DATA.CACHE_SIZE_GB",
    "DATALOADER.TOTAL_WORKERS",
    "DATALOADER.TRAIN_WORKERS",
    "DATALOADER.VAL_WORKERS",
    "DATALOADER.TRAIN_PREFETCH_FACTOR",
    "DATALOADER.VAL_PREFETCH_FACTOR",
    "DATALOADER.PIN_MEMORY",
)
# Keys that may change between the parts of one run without changing its numbers.
_FREE = (
    *OF_LOADING,
    "LOG.",
    "PROMISE.",
    "DATALOADER.PERSISTENT_WORKERS",
    "DATA.VOXELS_ON",
    "TEST.",
    "DATA.AUTO_SYNTHETIC",
    "TRAIN.MAX_STEPS",
    "TRAIN.EPOCHS",
    "TRAIN.VAL_BATCH_SIZE",
    "TRAIN.AUTO_HALVE_BATCH",
    "TRAIN.RANK_TIMEOUT_MINUTES",
    "MODEL.PRETRAINED",  # the checkpoint takes its place
)
# Keys that weights have their names and sizes from.
_SHAPING = (
    "DATA.NUM_VOXEL_BINS",
    "MODEL.ARCH",
    "MODEL.BASE_CHANNELS",
    "MODEL.CHANNELS_PER_SCALE",
    "MODEL.LAYERS",
    "MODEL.NUM_BLOCKS",
    "MODEL.USE_SPIKE",
    "MODEL.VRT.DEFORMABLE_GROUPS",
    "MODEL.VRT.EMBED_DIMS",
    "MODEL.VRT.INDEP_RECONSTS",
    "MODEL.VRT.NUM_HEADS",
    "MODEL.VRT.PA_FRAMES",
    "MODEL.VRT_DEPTHS",
    "MODEL.WINDOW_SIZE",
)


class Change(NamedTuple):
    """A key whose value in a checkpoint is not that of today; both as YAML."""

    key: str
    before: str
    now: str


def state_to_resume(
    config: Config, resume: str | None, *, warn: Callable[[str], None]
) -> dict[str, Any] | None:
    """Return the checkpoint that a run goes on from, None where it begins anew.

    Args:
        config: of the run; its folder is LOG.SAVE_DIR.
        resume: ``auto`` for the newest whole checkpoint of the folder if there is one, or a path.
        warn: told of damaged checkpoints that were passed over.

    Raises:
        DeblurkitError: if the folder holds a run that would be lost.
        CheckpointError: if the checkpoint cannot be read or is of another network.
    """
    found = _found(config, resume, warn=warn)
    return None if found is None else found.state


def state_of_all(
    config: Config, resume: str | None, *, ranks: Ranks, warn: Callable[[str], None]
) -> dict[str, Any] | None:
    """Return the checkpoint that all ranks go on from, as `state_to_resume`; rank 0 chooses the file.

    The others do not look for it themselves: a network file system may show them a folder as it was a while
    ago. Where they have no such file, None is returned there.

    Raises:
        DeblurkitError: on every rank, as `state_to_resume`; on one, if it cannot read the file.
    """
    if ranks.world_size == 1:
        return state_to_resume(config, resume, warn=warn)
    found, trouble = None, None
    if ranks.is_main:
        try:
            found = _found(config, resume, warn=warn)
        except DeblurkitError as error:
            trouble = error
    own = config.log.save_dir / "checkpoints"
    chosen = ranks.from_main(
        {
            "trouble": None if trouble is None else str(trouble),
            "path": None if found is None else str(found.path),
            "is_own": found is not None and found.path.parent == own,
        }
    )
    if chosen["trouble"] is not None:
        raise DeblurkitError(chosen["trouble"]) from trouble
    if found is not None or chosen["path"] is None:
        return None if found is None else found.state
    path = Path(chosen["path"])
    path = own / path.name if chosen["is_own"] else path  # this node may know the folder by another name
    return checkpoint.load_checkpoint(path) if path.is_file() else None


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[Change]:
    """Yield the keys that two configurations both have, and each with a value of its own, in order."""
    for key in sorted(old.keys() & new.keys()):  # a key that a later version has brought is no difference
        before, now = old[key], new[key]
        if isinstance(before, dict) and isinstance(now, dict):
            yield from differences(before, now, f"{prefix}{key}.")
        elif before != now:
            yield Change(f"{prefix}{key}", value_as_yaml(before), value_as_yaml(now))


def _found(config: Config, resume: str | None, *, warn: Callable[[str], None]) -> checkpoint.Found | None:
    folder = config.log.save_dir
    if resume is None:
        if checkpoint.holds_any(folder / "checkpoints"):
            raise DeblurkitError(
                f"{folder} already holds a run; go on with it by --resume auto, or choose another folder by"
                " --output DIR"
            )
        return None
    if resume == "auto":
        found = checkpoint.find_newest(folder / "checkpoints", warn=warn)
        own = folder / "config.yaml"
    else:
        found = _named(Path(resume), folder)
        own = Path(resume).parent.parent / "config.yaml"
    if found is not None:
        _check_network(found.state, config, own=own)
    return found


def changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    """Yield what differs between a checkpoint's configuration and that of today, where it matters."""
    return (change for change in differences(old, new) if not change.key.startswith(_FREE))


def _named(path: Path, folder: Path) -> checkpoint.Found:
    """Return the checkpoint that was asked for by its path, if nothing in ``folder`` would be lost."""
    if path.is_dir():
        raise CheckpointError(
            f"--resume {path}: expected auto or a checkpoint file, got a folder; to go on with the run in it,"
            f" use --output {shlex.quote(str(path))} --resume auto"
        )
    if not path.is_file():
        raise CheckpointError(f"--resume {path}: expected auto or a checkpoint file, found none")
    own = folder / "checkpoints"
    if path.resolve().parent != own.resolve() and checkpoint.holds_any(own):
        raise DeblurkitError(
            f"{folder} already holds a run, whose checkpoints would be lost to one that begins at {path}; go"
            " on with it by --resume auto, or choose another folder by --output DIR"
        )
    state = checkpoint.load_checkpoint(path)
    later = [other for other in checkpoint.checkpoints_in(own) if checkpoint.step_of(other) > state["step"]]
    if later:
        raise DeblurkitError(
            f"{folder} holds {later[-1].name}, which is later than {path} (step {state['step']});"
            " going on from there would drop it: choose another folder by --output DIR"
        )
    return checkpoint.Found(path, state)


def _check_network(state: dict[str, Any], config: Config, *, own: Path) -> None:
    """Raise a CheckpointError, naming keys, if a checkpoint is of another network than the configuration.

    ``own`` is where the run that wrote it keeps its configuration.
    """
    old, new = state["config"], as_values(config)
    found = [change for change in differences(old, new) if change.key in _SHAPING]
    if not found:
        return
    with torch.device("meta"):  # names and sizes alone: no memory, no time
        model = build_model(config.model, num_voxel_bins=config.data.num_voxel_bins)
    if not checkpoint.misfits(state, model):
        return
    told = [change for change in found if change.key == "MODEL.ARCH"] or found
    listed = ", ".join(
        f"{change.key} is {change.before} in the checkpoint and {change.now} here" for change in told
    )
    raise CheckpointError(
        f"the checkpoint is of another network: {listed}; {_advice(own, folder=config.log.save_dir)}"
    )


def _advice(own: Path, *, folder: Path) -> str:
    """Return how to go on with the network of a checkpoint."""
    if own.parent == folder:
        return (
            f"leave out --preset and --config: `--output {shlex.quote(str(folder))} --resume auto` is enough"
        )
    return (
        f"instead of --preset take --config {shlex.quote(str(own)) if own.is_file() else 'FILE of its run'}"
    )
