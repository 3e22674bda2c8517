"""Which control groups this process is in; a limit may stand in any of them, up to the root of the tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


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


def _up_to(root: Path, path: str) -> Iterator[Path]:
    folder = root / path.lstrip("/")
    while folder != root and root in folder.parents:
        yield folder
        folder = folder.parent
    yield root
