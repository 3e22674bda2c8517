"""Whether the files of a dataset are what its manifest says, byte for byte."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deblurkit.data.manifest import Manifest, listed
from deblurkit.errors import DataError
from deblurkit.files import write_text

Progress = Callable[[int, int], None]  # bytes done, bytes in all

VERIFIED = "verified.json"
_BLOCK = 2**20  # bytes read at a time


def damaged_files(
    root: Path, manifest: Manifest, names: Iterable[str], *, progress: Progress | None = None
) -> list[str]:
    """Return which of the files differ from their SHA-256, reading some of them at a time.

    Args:
        root: of the dataset.
        manifest: of the dataset.
        names: files of it.
        progress: told the bytes done and the bytes of all of them.

    Raises:
        DataError: if a file cannot be read.
    """
    names, files, done, damaged = list(names), manifest.files, 0, []
    total = sum(files[name].bytes for name in names)
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for name, found in zip(names, pool.map(lambda name: sha256_of(root / name), names), strict=True):
            done += files[name].bytes
            if found != files[name].sha256:
                damaged.append(name)
            if progress is not None:
                progress(done, total)
    return damaged


def require_verified(root: Path, manifest: Manifest, *, progress: Progress | None = None) -> None:
    """Read every file that has changed since it was last found whole.

    Raises:
        DataError: naming the files that are damaged.
    """
    known = _verified(root)
    names = [name for name in manifest.files if known.get(name) != _stamp(root / name)]
    damaged = [f"{name}: SHA-256 differs" for name in damaged_files(root, manifest, names, progress=progress)]
    if damaged:
        again = "pack it again by `deblurkit prepare-data pack`"
        raise DataError(listed(f"{root}: damaged files; {again}", damaged))
    if names:
        with contextlib.suppress(OSError):  # of a folder that we may not write to, all is read every time
            note_verified(root, manifest.files)


def note_verified(root: Path, names: Iterable[str]) -> None:
    """Note that these files are whole as they are now."""
    write_text(root / VERIFIED, json.dumps({name: _stamp(root / name) for name in names}))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(_BLOCK):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _verified(root: Path) -> dict[str, list[int]]:
    """Return the stamps of the files that were found whole; none where that cannot be read."""
    try:
        stamps = json.loads((root / VERIFIED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _stamp(path: Path) -> list[int]:
    """Return what changes when a file is written to: its size and the time of its last change [ns]."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
