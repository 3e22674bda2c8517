"""Whether the files of a dataset are what its manifest says, byte for byte."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deblurkit.data.manifest import FileRecord, Manifest, listed
from deblurkit.errors import DataError
from deblurkit.files import write_text

Progress = Callable[[int, int], None]  # bytes done, bytes in all

Stamp = list[int | str]

VERIFIED = "verified.json"
_BLOCK = 2**20  # bytes read at a time


def damaged_files(
    root: Path,
    files: Mapping[str, FileRecord],
    names: Iterable[str],
    *,
    progress: Progress | None = None,
) -> list[str]:
    """Return which of the files differ from their SHA-256, reading some of them at a time.

    Args:
        root: of the dataset.
        files: what every file of it must be.
        names: which of them are read.
        progress: told the bytes done and the bytes of all of them.

    Raises:
        DataError: if a file cannot be read.
    """
    names, done, damaged = list(names), 0, []
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
    damaged = [f"{name}: SHA-256 differs" for name in unverified(root, manifest.files, progress=progress)]
    if damaged:
        again = "pack it again by `deblurkit prepare-data pack`"
        raise DataError(listed(f"{root}: damaged files; {again}", damaged))


def unverified(root: Path, files: Mapping[str, FileRecord], *, progress: Progress | None = None) -> list[str]:
    """Return which files are damaged, reading those that have changed since they were last found whole."""
    known = _verified(root)
    stamps = {name: stamp_of(root / name, record) for name, record in files.items()}
    names = [name for name, stamp in stamps.items() if known.get(name) != stamp]
    damaged = damaged_files(root, files, names, progress=progress)
    if names and not damaged:
        with contextlib.suppress(OSError):  # of a folder that we may not write to, all is read every time
            note_verified(root, stamps)
    return damaged


def note_verified(root: Path, stamps: Mapping[str, Stamp]) -> None:
    """Note that these files were whole when they had these stamps."""
    write_text(root / VERIFIED, json.dumps(stamps))


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


def stamp_of(path: Path, record: FileRecord) -> Stamp:
    """Return what changes when a file is written to, copied, or expected to be another."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, record.sha256]


def _verified(root: Path) -> dict[str, Stamp]:
    """Return the stamps of the files that were found whole; none where that cannot be read."""
    try:
        stamps = json.loads((root / VERIFIED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}
