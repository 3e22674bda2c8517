"""The folder of a cache: who may use it, who keeps it alive, and when it goes.

Every main process that has joined holds a shared ``flock`` on the folder's lock file; the kernel drops it
when the process ends, however it ends. So whoever gets the lock exclusively knows that nobody is left, and
may remove the folder. A lock counts only on the file that the path still leads to: it is looked at again once
the lock is held.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from deblurkit.cache import forks
from deblurkit.errors import DataError

_PREFIX = "deblurkit-cache-"
_LOCK = "lock"
_TOKEN_BYTES = 8


class Membership:
    """A main process's hold on a cache folder; ends with `leave` or with the process, not with its forks."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self._descriptor: int | None = descriptor
        forks.watch(self)

    def leave(self) -> None:
        """Let go of the folder; the last one out removes it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            if _locked_alone(descriptor) and _leads_to(self.folder, descriptor):
                _remove(self.folder)
        finally:
            os.close(descriptor)

    def before_fork(self) -> None:
        """Nothing has to be let go of: the child's copy of the descriptor shares the parent's lock."""

    def after_fork_in_parent(self) -> None:
        """Nothing has changed for the parent."""

    def after_fork_in_child(self) -> None:
        """Close the copy, so that a child neither keeps the folder alive nor removes it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def default_root() -> Path:
    """Return where caches are made: memory that processes share, or else the folder for temporary files."""
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def folder_of(root: Path, name: str) -> Path:
    """Return the folder of this user's cache of that name."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return root / f"{_PREFIX}{os.getuid()}-{digest[:16]}"


def join_folder(folder: Path, prepare: Callable[[Path], None]) -> tuple[Membership, Path]:
    """Return the hold on a cache folder and the run's own folder in it.

    What the dead have left in the folder is removed first. A run's folder has a name of its own, so that a
    worker that outlives its run finds nothing of the next one.

    Args:
        folder: of the cache.
        prepare: fills a new run's folder; called by the first to join.

    Raises:
        DataError: if the folder is not ours alone, or cannot be made.
    """
    while True:
        _make_folder(folder)
        descriptor = _open_lock(folder)
        if descriptor is None:
            continue
        try:
            if _locked_alone(descriptor) and _leads_to(folder, descriptor):
                _start_run(folder, prepare)
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # not atomic: another may have held it alone in between
            run = _run_in(folder)
            if run is not None and _leads_to(folder, descriptor):
                return Membership(folder, descriptor), run
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def remove_remains(root: Path) -> list[Path]:
    """Remove this user's cache folders that no main process holds, and return them."""
    return [folder for folder in sorted(root.glob(f"{_PREFIX}{os.getuid()}-*")) if _removed_if_dead(folder)]


def all_folders(root: Path) -> list[Path]:
    """Return the cache folders of all users, what is left of removed ones among them."""
    return sorted(root.glob(f"{_PREFIX}*"))


def is_held(folder: Path) -> bool | None:
    """Return whether a main process holds a cache folder; nothing is made or removed.

    None where that cannot be known: the folder is another user's, or has no lock file yet.
    """
    if not _is_ours(folder):
        return None
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(folder / _LOCK, flags)
    except OSError:
        return None
    try:
        return not _locked_alone(descriptor)
    finally:
        os.close(descriptor)


def _removed_if_dead(folder: Path) -> bool:
    if not _is_ours(folder):
        return False
    # A folder without a lock file gets one: its maker may have been killed, or be about to open it.
    descriptor = _open_lock(folder)
    if descriptor is None:
        return False
    try:
        dead = _locked_alone(descriptor) and _leads_to(folder, descriptor)
        if dead:
            _remove(folder)
        return dead
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if _is_ours(folder) is False:
            raise DataError(
                f"{folder}: a folder of your own that nobody else can open (mode 0700) expected; something "
                "else is in its place, remove it"
            ) from None
    except OSError as error:
        raise DataError(f"{folder}: no cache can be made here: {error.strerror}") from error


def _open_lock(folder: Path) -> int | None:
    """Return the lock file's descriptor, or None if the folder has just been removed."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(folder / _LOCK, flags, 0o600)
    except FileNotFoundError:
        return None


def _is_ours(folder: Path) -> bool | None:
    """Whether the path is a real folder, this user's and closed to all others; None if there is none."""
    try:
        found = folder.lstat()
    except OSError:
        return None
    closed = not stat.S_IMODE(found.st_mode) & 0o077
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and closed


def _locked_alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _leads_to(folder: Path, descriptor: int) -> bool:
    """Whether the path still leads to our folder, and to the lock file that was opened."""
    try:
        return bool(_is_ours(folder)) and os.path.samestat(os.stat(folder / _LOCK), os.fstat(descriptor))
    except OSError:
        return False


def _start_run(folder: Path, prepare: Callable[[Path], None]) -> None:
    """Make a run's folder in place of all that the dead have left; it has its name only once it is whole."""
    for remains in folder.iterdir():
        if remains.name != _LOCK:
            _remove(remains)
    token = secrets.token_hex(_TOKEN_BYTES)
    hidden = folder / f".{token}"
    hidden.mkdir(mode=0o700)
    try:
        prepare(hidden)
    except BaseException:
        _remove(folder)
        raise
    hidden.rename(folder / f"run-{token}")


def _run_in(folder: Path) -> Path | None:
    return next(folder.glob(f"run-{'?' * 2 * _TOKEN_BYTES}"), None)


def _remove(path: Path) -> None:
    """Remove a folder for good: first its name, so that nothing is put in it or found in it any more."""
    unnamed = path.with_name(f"{path.name}.{secrets.token_hex(4)}.removed")
    try:
        path.rename(unnamed)
    except FileNotFoundError:
        return
    for _ in range(5):  # one that began to open a file before the rename may still end it in here
        shutil.rmtree(unnamed, ignore_errors=True)
        if not os.path.lexists(unnamed):
            return
