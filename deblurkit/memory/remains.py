"""What lies in shared memory, whose it is, and whether anybody holds it: the dead leave gigabytes there."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deblurkit.cache import folder as cache_folder
from deblurkit.memory.machine import THIS_MACHINE, Machine, unseen_processes

State = Literal["held", "dead", "unknown"]
CACHE = "decoded samples (deblurkit)"
_PID_IN_NAME = re.compile(r"^torch_(\d+)_")
_WHAT = (
    (re.compile(r"^torch_\d+_"), "tensor shared by PyTorch"),
    (re.compile(r"^nccl-"), "buffer of NCCL"),
    (re.compile(r"^(psm_|wnsm_)"), "Python shared memory"),
    (re.compile(r"^sem\."), "semaphore"),
    (re.compile(r"^cuda\.shm\."), "memory shared by CUDA"),
)
_OTHER = "file"
_BLOCK = 512  # bytes of st_blocks


@dataclass(frozen=True)
class Remain:
    """Something in memory that outlives the process that has made it.

    Attributes:
        path: where it lies; None for a System V segment.
        what: what it is, in words.
        user: whose it is; the number as text where there is no name for it.
        bytes: what it takes; None where that cannot be seen.
        state: ``held`` by a process that lives, ``dead`` where nobody holds it, ``unknown`` where that cannot
            be seen.
        why: how the state is known, or why it is not.
    """

    path: Path | None
    what: str
    user: str
    bytes: int | None
    state: State
    why: str


def remains(
    machine: Machine = THIS_MACHINE,
    *,
    roots: Collection[Path] | None = None,
    user_name: Callable[[int], str] | None = None,
) -> list[Remain]:
    """Return what lies in shared memory and in cache folders, the dead first and then by size.

    Nothing is changed; `deblurkit.cache.folder.remove_remains` takes away what is dead of the cache's.

    Args:
        machine: what is read.
        roots: folders that caches are made in; None is shared memory, and where caches go without it.
        user_name: tells a user's name; None asks the system.
    """
    name = user_name or _user_name
    roots = {machine.shm, cache_folder.default_root()} if roots is None else roots
    open_files = _OpenFiles(machine)
    caches = [path for root in sorted(roots) for path in cache_folder.all_folders(root)]
    found = [*_of_caches(caches, name), *_of_files(machine, open_files, name), *_of_segments(machine, name)]
    order = ("dead", "unknown", "held")
    return sorted(found, key=lambda each: (order.index(each.state), -(each.bytes or 0), str(each.path)))


def _of_caches(folders: Collection[Path], name: Callable[[int], str]) -> Iterator[Remain]:
    for folder in folders:
        try:
            owner = folder.lstat().st_uid
        except FileNotFoundError:
            continue
        held = None if folder.name.endswith(".removed") else cache_folder.is_held(folder)
        state, why = _of_lock(held)
        if held is None and owner != os.getuid():
            why = "another user's: only they can see into it"
        yield Remain(folder, CACHE, name(owner), _size(folder), state, why)


def _of_lock(held: bool | None) -> tuple[State, str]:
    if held is None:
        return "unknown", "it has no lock that could be asked: it is being made or removed"
    return ("held", "a run holds its lock") if held else ("dead", "no run holds its lock")


class _OpenFiles:
    """The files in shared memory that processes have open or mapped, as far as this user may see.

    Attributes:
        paths: of the files.
        are_all_listed: whether every process that may have one is in /proc here.
        are_all_seen: whether every one that is could be looked into.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.are_all_listed, self.are_all_seen = not unseen_processes(machine), True
        folders = [entry for entry in _entries(machine.proc) if entry.name.isdigit()]
        self.paths = {path for folder in folders for path in self._of(folder)}

    def lives(self, number: str) -> bool:
        """Return whether a process of that number is listed now."""
        return (self._machine.proc / number).exists()

    def _of(self, folder: Path) -> Iterator[str]:
        below = f"{self._machine.shm}/"
        try:
            for line in (folder / "maps").read_text(errors="replace").splitlines():
                _, slash, path = line.partition("/")
                if slash and f"/{path}".startswith(below):
                    yield f"/{path}"
            for entry in (folder / "fd").iterdir():
                with contextlib.suppress(OSError):  # closed meanwhile
                    if (path := os.readlink(entry)).startswith(below):
                        yield path
        except PermissionError:
            self.are_all_seen = False
        except OSError:  # it has ended
            return


def _of_files(machine: Machine, open_files: _OpenFiles, name: Callable[[int], str]) -> Iterator[Remain]:
    caches = set(cache_folder.all_folders(machine.shm))
    for entry in _entries(machine.shm):
        if entry in caches:
            continue
        try:
            found = entry.lstat()
        except FileNotFoundError:
            continue
        what = next((what for pattern, what in _WHAT if pattern.match(entry.name)), _OTHER)
        state, why = _of_file(entry, open_files, is_ours=found.st_uid == os.getuid())
        yield Remain(entry, what, name(found.st_uid), _size(entry), state, why)


def _of_file(path: Path, open_files: _OpenFiles, *, is_ours: bool) -> tuple[State, str]:
    """Return the state of a file or folder; one that nobody has open may be meant to stay."""
    if any(each == str(path) or each.startswith(f"{path}/") for each in open_files.paths):
        return "held", "a process has it open or mapped"
    maker = _PID_IN_NAME.match(path.name)
    if maker and open_files.lives(maker[1]):
        return "held", f"process {maker[1]}, which has made it, lives"
    if not open_files.are_all_seen and not is_ours:
        return "unknown", "another user's: their processes cannot be looked into"
    if not maker:
        return "unknown", "no process that is seen has it open; it may be meant to stay"
    if not open_files.are_all_listed:
        return "unknown", f"process {maker[1]}, which has made it, is not seen, as others are not from here"
    return "dead", f"process {maker[1]}, which has made it, is not here any more"


def _of_segments(machine: Machine, name: Callable[[int], str]) -> Iterator[Remain]:
    """Yield the segments of System V's shared memory, see shmctl(2)."""
    try:
        lines = (machine.proc / "sysvipc/shm").read_text().splitlines()
    except OSError:
        return
    for line in lines[1:]:
        row = dict(zip(lines[0].split(), line.split(), strict=False))
        attached = int(row["nattch"])
        state: State = "held" if attached else "dead"
        why = (
            f"{attached} attached"
            if attached
            else f"nobody is attached; `ipcrm -m {row['shmid']}` removes it"
        )
        what = f"System V segment {row['shmid']}"
        yield Remain(None, what, name(int(row["uid"])), int(row.get("rss", row["size"])), state, why)


def _size(path: Path) -> int | None:
    """Return the bytes that a file, or all in a folder, takes; None where it cannot be seen."""
    try:
        if not path.is_dir() or path.is_symlink():
            return path.lstat().st_blocks * _BLOCK
        return sum(_size(entry) or 0 for entry in path.iterdir())
    except FileNotFoundError:
        return 0
    except OSError:
        return None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
