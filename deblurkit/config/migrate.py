"""Keys of older versions and of the seeds' command lines, and what they are called now."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from deblurkit.config.yaml_source import KeyPath, Setting

# Old name -> new name; None: accepted and without effect, for the reason given in REASONS.
OLD_KEYS: dict[str, str | None] = {
    "TRAIN.NUM_WORKERS": "DATALOADER.TRAIN_WORKERS",
    "TRAIN.USE_AMP": "TRAIN.AMP_ENABLED",
    "DATALOADER.NUM_WORKERS": "DATALOADER.TRAIN_WORKERS",
    "DATALOADER.PREFETCH_FACTOR": "DATALOADER.TRAIN_PREFETCH_FACTOR",
    "MODEL.ARCHITECTURE": "MODEL.ARCH",
    "MODEL.VRT.DEPTHS": "MODEL.VRT_DEPTHS",
    "MODEL.VRT_CFG": None,
    "ARCHITECTURE": "MODEL.ARCH",
    "BASE_CHANNELS": "MODEL.BASE_CHANNELS",
    "NUM_BLOCKS": "MODEL.NUM_BLOCKS",
    "BATCH_SIZE": "TRAIN.BATCH_SIZE",
    "NUM_WORKERS": "DATALOADER.TRAIN_WORKERS",
    "PREFETCH_FACTOR": "DATALOADER.TRAIN_PREFETCH_FACTOR",
    "PIN_MEMORY": "DATALOADER.PIN_MEMORY",
    "PERSISTENT_WORKERS": "DATALOADER.PERSISTENT_WORKERS",
    "USE_AMP": "TRAIN.AMP_ENABLED",
}
REASONS = {"MODEL.VRT_CFG": "the network is built from the MODEL section itself"}


def migrate(
    settings: Iterable[Setting], *, known: Iterable[KeyPath], warn: Callable[[str], None]
) -> tuple[list[Setting], list[str]]:
    """Return the settings under their present names, and a problem for each key given under both names.

    Args:
        settings: as they were written.
        known: every path of the schema, sections included; lower-case spellings of these are accepted too.
        warn: told of each old key, with its new name.
    """
    present = {setting.path: setting for setting in settings}
    by_capitals = {path: path for path in known}
    moved: dict[KeyPath, Setting] = {}
    problems: list[str] = []
    for setting in present.values():
        name = ".".join(part.upper() for part in setting.path)
        if tuple(name.split(".")) in by_capitals:
            target: str | None = name
        else:
            target = OLD_KEYS.get(name, setting.name)
        if target is None:
            warn(f"{setting.origin}: {setting.name} has no effect any more: {REASONS[name]}")
            continue
        path = tuple(target.split("."))
        if path == setting.path:
            moved[path] = setting
            continue
        if path in present:
            problems.append(
                f"{setting.origin}: {setting.name} and {target} ({present[path].origin}) mean the same;"
                f" keep {target}"
            )
            continue
        warn(f"{setting.origin}: {setting.name} is now {target}")
        moved[path] = replace(setting, path=path)
    return list(moved.values()), problems
