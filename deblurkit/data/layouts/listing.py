"""Folders and file names, listed in the order in which people count."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from deblurkit.data.manifest import Split
from deblurkit.errors import DataError

SPLITS: tuple[Split, ...] = ("train", "test")


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, hidden ones left out; empty where there is no such folder."""
    return [folder / name for name in sorted(_names(folder, folders=True), key=counting_order)]


def stems(folder: Path, suffix: str) -> list[str]:
    """Return the names, without ``suffix``, of the files in a folder that have it."""
    found = (name.removesuffix(suffix) for name in _names(folder, folders=False) if name.endswith(suffix))
    return sorted(found, key=counting_order)


def merged(*lists: Iterable[str]) -> list[str]:
    """Return every name of the lists once, in order: what any of them has belongs to the sequence."""
    return sorted(set().union(*lists), key=counting_order)


def split_sequences(root: Path) -> Iterator[tuple[Split, Path]]:
    """Yield (split, folder) of everything that lies in ``{train,test}/<sequence>``."""
    for split in SPLITS:
        yield from ((split, folder) for folder in subfolders(root / split))


def counting_order(name: str) -> list[tuple[int, str]]:
    """Return what sorts ``9`` before ``10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def described(folder: Path, *, shown: int = 6) -> str:
    """Return what lies in a folder, for a message: a few names and how many more."""
    try:
        names = sorted(os.listdir(folder), key=counting_order)
    except OSError as error:
        return f"nothing that can be read ({error.strerror})"
    if not names:
        return "nothing"
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


def _names(folder: Path, *, folders: bool) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in entries if e.is_dir() == folders and not e.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
