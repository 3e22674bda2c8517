"""Writing that never leaves half a file behind: write beside, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that takes the place of ``path`` once the block has ended without an error.

    The bytes go to a hidden file in the same folder, reach the disk, and only then take the name; on an
    error the hidden file is removed and ``path`` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def give_second_name(source: Path, path: Path) -> None:
    """Have ``path`` be the file ``source`` too, in one piece; a copy of it where files have but one name."""
    hidden = path.parent / f".{path.name}.{os.getpid()}.partial"
    hidden.unlink(missing_ok=True)
    try:
        os.link(source, hidden)
    except OSError:  # exFAT and many network file systems know no links
        with source.open("rb") as original, replaced_file(path) as file:
            shutil.copyfileobj(original, file)
        return
    hidden.replace(path)
    hidden.unlink(missing_ok=True)  # a rename does nothing where both are names of one file already
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to ``path`` in one piece: the old content stays until the new one is on the disk."""
    with replaced_file(path) as file:
        file.write(text.encode("utf-8"))


def check_writable(path: Path) -> None:
    """Make the folder of ``path``; raise OSError now, before long work, if nothing can be written there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(
            errno.EISDIR, "expected the name of a file to write, and this is a folder", str(path)
        )
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB image (H, W, 3) as PNG, in one piece."""
    import cv2

    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with replaced_file(path) as file:
        file.write(encoded.tobytes())


@contextlib.contextmanager
def hidden_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden folder beside ``path`` for what is to become it by `take_name`; else it is removed.

    What a killed process has left of the same is removed first: it holds no lock any more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        if old.is_dir():
            _remove_unless_locked(old)
    hidden = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    descriptor = os.open(hidden, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield hidden
    finally:
        os.close(descriptor)
        shutil.rmtree(hidden, ignore_errors=True)  # gone already where it has taken its name


def _remove_unless_locked(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process's, who may remove it itself
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def take_name(hidden: Path, path: Path) -> None:
    """Give a folder that is whole its name; whoever may read new files may read it."""
    hidden.chmod(0o777 & ~_umask())  # mkdtemp has made it its owner's alone
    hidden.rename(path)
    _sync_folder(path.parent)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


def sync_file(path: Path) -> None:
    """Have what was written to a file reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut (where the file system can)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
