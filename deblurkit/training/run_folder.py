"""The folder of a run: trained in by one at a time, and with the configuration of each of its parts."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import yaml

from deblurkit.config.schema import Config, as_values
from deblurkit.errors import DeblurkitError
from deblurkit.files import give_second_name, write_text

CONFIG = "config.yaml"
CONFIG_HEAD = "# Written by deblurkit train; the whole configuration of this run.\n"
LOCK = ".lock"
_TAKEN = (errno.EACCES, errno.EAGAIN)
_PATIENCE = 10.0  # seconds that a process which was just killed may take to hand back a GPU's memory
_LOOK_EVERY = 0.1  # seconds


@contextlib.contextmanager
def held(folder: Path, *, patience: float = _PATIENCE) -> Iterator[None]:
    """Keep other processes from training in ``folder`` during the block.

    The lock is the kernel's, so that it ends with the process however that ends, and loader workers that
    outlive it hold none of it. It holds on network file systems too; where one knows no locks, there is none.

    Args:
        folder: of a run; made if it is not there, and gone again if the block has failed and left it empty.
        patience: seconds to wait for one that is about to end.

    Raises:
        DeblurkitError: if another process trains in it, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise DeblurkitError(f"{folder} is a file, a folder expected; choose another one by --output DIR")
    is_new, path = not folder.exists(), folder / LOCK
    with contextlib.closing(_locked(path, patience=patience)) as file:
        with contextlib.suppress(OSError):  # a full disk is told of by what needs more of it
            os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}\n".encode())
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if is_new:
                with contextlib.suppress(OSError):  # there is a run in it now
                    folder.rmdir()


def _locked(path: Path, *, patience: float) -> TextIO:
    """Return the lock's file, open and empty, once no other process has it."""
    until = time.monotonic() + patience
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
        if _lock(file.fileno()) and _is_at(path, file.fileno()):
            file.truncate(0)
            return file
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        if time.monotonic() > until:
            raise DeblurkitError(
                f"{path.parent}: {holder} trains in it at this moment; wait for its end, stop it (SIGTERM has"
                " it save), or choose another folder by --output DIR"
            )
        time.sleep(_LOOK_EVERY)


def _lock(descriptor: int) -> bool:
    """Return whether the file is this process's now, or cannot be locked at all.

    Locks of POSIX, which a fork does not hand on, unlike those of flock.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _TAKEN
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether the file still has its name: who held it before has taken it away at the end."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def write_config(folder: Path, config: Config, *, done_steps: int) -> None:
    """Write config.yaml; that of the part of the run before stays beside it where it was another.

    Raises:
        DeblurkitError: if there is one that no run has written.
    """
    path = folder / CONFIG
    text = CONFIG_HEAD + yaml.safe_dump(as_values(config), sort_keys=False, allow_unicode=True)
    before = path.read_text(encoding="utf-8") if path.is_file() else text
    if not before.startswith(CONFIG_HEAD):
        raise DeblurkitError(
            f"{path} is there already and was not written by a run; choose another folder by --output DIR"
        )
    earlier = folder / f"config_until_step_{done_steps:08d}.yaml"
    if before != text and done_steps and not earlier.exists():  # else that part has saved no step
        give_second_name(path, earlier)
    write_text(path, text)
