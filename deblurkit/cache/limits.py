"""How large a cache a node can hold: file system, RAM, and every memory limit of its control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deblurkit import cgroups
from deblurkit.errors import DataError
from deblurkit.units import GIB, format_bytes

ACCEPTED_SHARE = 0.95  # of what is free; a full file system or control group ends other people's work
PROPOSED_SHARE = 0.90  # less, so that what is proposed is still accepted a moment later

_KEY = "DATA.CACHE_SIZE_GB"


@dataclass(frozen=True)
class Limit:
    """Something that a cache takes memory from.

    Attributes:
        where: its name, as a user knows it.
        free_bytes: what it can give without taking it from another.
    """

    where: str
    free_bytes: int


def check_budget(max_bytes: int, limits: Iterable[Limit]) -> None:
    """Accept a budget that leaves a twentieth of every limit free.

    Raises:
        DataError: if it does not, with the tightest limit and a budget that fits.
    """
    tightest = min(limits, key=lambda limit: limit.free_bytes, default=None)
    if tightest is None or max_bytes <= ACCEPTED_SHARE * tightest.free_bytes:
        return
    fitting = _floor(PROPOSED_SHARE * tightest.free_bytes / GIB)
    advice = f"{_KEY}={fitting}" if fitting else "DATA.USE_RAM_CACHE=false"
    raise DataError(
        f"{_KEY}: {format_bytes(max_bytes)} do not fit: {tightest.where} has "
        f"{format_bytes(tightest.free_bytes)} free; use --set {advice}"
    )


def node_limits(
    root: Path,
    *,
    meminfo: Path = Path("/proc/meminfo"),
    cgroup_root: Path = cgroups.ROOT,
    membership: Path = cgroups.MEMBERSHIP,
) -> list[Limit]:
    """Return what bounds a cache in ``root``: those of its limits that this machine tells.

    Page cache counts as free, because the kernel gives it up; what lies in /dev/shm it cannot give up.
    """
    limits = [*_file_system(root), *_ram(meminfo)]
    for group in cgroups.own_cgroups("memory", root=cgroup_root, membership=membership):
        limits += _of_group(group)
    return limits


def _file_system(root: Path) -> Iterator[Limit]:
    found = os.statvfs(root)
    if found.f_blocks:  # a tmpfs without a size says 0
        yield Limit(str(root), found.f_bavail * found.f_frsize)


def _ram(meminfo: Path) -> Iterator[Limit]:
    available = cgroups.read_fields(meminfo).get("MemAvailable:")
    if available is not None:
        yield Limit("RAM", 1024 * available)


def _of_group(group: cgroups.Cgroup) -> Iterator[Limit]:
    memory = cgroups.group_memory(group)
    given = [limit for name, limit in memory.limits.items() if name not in cgroups.OF_SWAP]
    if given and memory.used is not None:
        yield _cgroup_limit(group.folder, min(given), memory.used - memory.page_cache)


def _cgroup_limit(folder: Path, limit: int, used: int) -> Limit:
    return Limit(f"the cgroup {folder} ({format_bytes(limit)})", max(0, limit - max(0, used)))


def _floor(gib: float) -> float:
    """Return a size that is easily typed and not larger."""
    digits = 10 if gib >= 1 else 100
    return math.floor(gib * digits) / digits
