"""Which control groups a process is in, and what they give; any of them up to the root may have a limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_NO_LIMIT = 2**62  # version 1 says about 2^63 where there is none


@dataclass(frozen=True)
class Cgroup:
    """A control group that this process is in, itself or as one of its ancestors.

    Attributes:
        folder: where its files lie; in a container it may be missing, or show another group's.
        version: 1 or 2; the names of the files differ.
    """

    folder: Path
    version: int


def own_cgroups(controller: str, *, root: Path = ROOT, membership: Path = MEMBERSHIP) -> Iterator[Cgroup]:
    """Yield the control groups that bound this process, innermost first; none where there are no cgroups.

    Args:
        controller: name of the version 1 hierarchy, such as ``cpu`` or ``memory``; version 2 has but one.
        root: where the cgroup file systems are mounted.
        membership: the process's list of groups, ``hierarchy:controllers:path`` a line.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from (Cgroup(folder, 2) for folder in _up_to(root, path))
        elif controller in controllers.split(","):
            yield from (Cgroup(folder, 1) for folder in _up_to(root / controller, path))


@dataclass(frozen=True)
class GroupMemory:
    """Memory of a control group, its descendants' in it [bytes]; None for what its files do not tell.

    Attributes:
        limits: those that are set, by their file's name; ``memory.high`` only slows down.
        used: with page cache and shared memory.
        page_cache: of it, what the kernel gives up when memory is asked for.
        shared: of it, what lies in /dev/shm and the like, which the kernel cannot give up.
    """

    limits: dict[str, int]
    used: int | None
    page_cache: int
    shared: int | None


_LIMITS = {
    1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    2: ("memory.max", "memory.high", "memory.swap.max"),
}
OF_SWAP = frozenset(("memory.memsw.limit_in_bytes", "memory.swap.max"))  # and not of memory alone


def group_memory(group: Cgroup) -> GroupMemory:
    """Return what a control group gives and holds."""
    found = {name: read_number(group.folder / name) for name in _LIMITS[group.version]}
    limits = {name: value for name, value in found.items() if value is not None and value < _NO_LIMIT}
    fields = read_fields(group.folder / "memory.stat")
    prefix = "total_" if group.version == 1 else ""  # version 1 counts descendants apart
    return GroupMemory(
        limits=limits,
        used=read_number(
            group.folder / ("memory.usage_in_bytes" if group.version == 1 else "memory.current")
        ),
        page_cache=fields.get(f"{prefix}inactive_file", 0) + fields.get(f"{prefix}active_file", 0),
        shared=fields.get(f"{prefix}shmem"),
    )


def read_number(path: Path) -> int | None:
    """Return the number in a file; None where there is no file or it says ``max``."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def read_fields(path: Path) -> dict[str, int]:
    """Return a file of lines ``name number ...`` as a dictionary, empty where it cannot be read."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    rows = (line.split() for line in lines)
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _up_to(root: Path, path: str) -> Iterator[Path]:
    folder = root / path.lstrip("/")
    while folder != root and root in folder.parents:
        yield folder
        folder = folder.parent
    yield root
