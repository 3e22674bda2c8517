"""Names that older scripts used, as a table, and how a setting moves from one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from deblurkit.config.settings import Problem, Setting


@dataclass(frozen=True)
class Rename:
    """An older name of a key.

    Attributes:
        old: the older dotted name.
        new: the name of today.
        yields_to: keys that make the older one be left out, with a warning, instead of contradicting it.
        is_silent: the older name is as good as the new one, and both may be given where they agree.
    """

    old: str
    new: str
    yields_to: tuple[str, ...] = ()
    is_silent: bool = False


_WORKERS = ("DATALOADER.TRAIN_WORKERS", "DATALOADER.TOTAL_WORKERS")

RENAMED = (
    Rename("DATA.K", "DATA.NUM_VOXEL_BINS", is_silent=True),
    Rename("DATALOADER.NUM_WORKERS", "DATALOADER.TRAIN_WORKERS"),
    Rename("DATALOADER.num_workers", "DATALOADER.TRAIN_WORKERS"),
    Rename("num_workers", "DATALOADER.TRAIN_WORKERS"),
    # After all others of its kind: what the DATALOADER section says counts more.
    Rename("TRAIN.NUM_WORKERS", "DATALOADER.TRAIN_WORKERS", yields_to=_WORKERS),
    Rename("TRAIN.num_workers", "DATALOADER.TRAIN_WORKERS", yields_to=_WORKERS),
    Rename("DATALOADER.PREFETCH_FACTOR", "DATALOADER.TRAIN_PREFETCH_FACTOR"),
    Rename("DATALOADER.prefetch_factor", "DATALOADER.TRAIN_PREFETCH_FACTOR"),
    Rename("prefetch_factor", "DATALOADER.TRAIN_PREFETCH_FACTOR"),
    Rename("DATALOADER.pin_memory", "DATALOADER.PIN_MEMORY"),
    Rename("pin_memory", "DATALOADER.PIN_MEMORY"),
    Rename("DATALOADER.persistent_workers", "DATALOADER.PERSISTENT_WORKERS"),
    Rename("persistent_workers", "DATALOADER.PERSISTENT_WORKERS"),
    Rename("TRAIN.USE_AMP", "TRAIN.AMP_ENABLED"),
    Rename("TRAIN.use_amp", "TRAIN.AMP_ENABLED"),
    Rename("USE_AMP", "TRAIN.AMP_ENABLED"),
    Rename("use_amp", "TRAIN.AMP_ENABLED"),
    Rename("TRAIN.batch_size", "TRAIN.BATCH_SIZE"),
    Rename("batch_size", "TRAIN.BATCH_SIZE"),
    Rename("MODEL.base_channels", "MODEL.BASE_CHANNELS"),
    Rename("base_channels", "MODEL.BASE_CHANNELS"),
    Rename("MODEL.num_blocks", "MODEL.NUM_BLOCKS"),
    Rename("num_blocks", "MODEL.NUM_BLOCKS"),
    Rename("MODEL.VRT.use_checkpoint_attn", "MODEL.VRT.USE_CHECKPOINT_ATTN"),
    Rename("MODEL.VRT.use_checkpoint_ffn", "MODEL.VRT.USE_CHECKPOINT_FFN"),
)

WITHOUT_EFFECT = {"MODEL.VRT_CFG": "is not used: the network is built from the MODEL keys; leave it out"}


@dataclass
class Migrated:
    """Settings under the names of today, and what there is to say about it."""

    settings: dict[str, Setting]
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def migrate(settings: Mapping[str, Setting]) -> Migrated:
    """Return the settings of one source under the names of today.

    A key that one source gives under two names is a problem; between two sources the later one decides.
    """
    result = Migrated(dict(settings))
    for rename in RENAMED:
        setting = result.settings.pop(rename.old, None)
        if setting is None or (rename.is_silent and setting.value is None):
            continue
        deciding = [key for key in rename.yields_to if key in result.settings]
        if deciding:
            result.warnings.append(
                f"{setting.origin}: {rename.old} is an older name and is left out;"
                f" {' and '.join(deciding)} decides"
            )
        elif rename.new in result.settings:
            _meet(rename, setting, result)
        else:
            result.settings[rename.new] = replace(setting, origin=replace(setting.origin, written=rename.old))
            if not rename.is_silent:
                result.warnings.append(f"{setting.origin}: {rename.old} is an older name; write {rename.new}")
    for key, reason in WITHOUT_EFFECT.items():
        if key in settings and settings[key].value is not None:
            result.warnings.append(f"{settings[key].origin}: {key} {reason}")
    return result


def _meet(rename: Rename, old: Setting, result: Migrated) -> None:
    """Compare a setting under an older name with one that is there already."""
    new = result.settings[rename.new]
    if rename.is_silent and type(old.value) is type(new.value) and old.value == new.value:
        return
    other = new.origin.written or rename.new
    result.problems.append(
        Problem(
            old.origin,
            rename.old,
            f"{'disagrees with' if rename.is_silent else 'sets the same as'} {other} ({new.origin});"
            f" keep only {rename.new}",
        )
    )
