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
        limits += _version_2(group.folder) if group.version == 2 else _version_1(group.folder)
    return limits


def _file_system(root: Path) -> Iterator[Limit]:
    found = os.statvfs(root)
    if found.f_blocks:  # a tmpfs without a size says 0
        yield Limit(str(root), found.f_bavail * found.f_frsize)


def _ram(meminfo: Path) -> Iterator[Limit]:
    available = _fields(meminfo).get("MemAvailable:")
    if available is not None:
        yield Limit("RAM", 1024 * available)


def _version_2(folder: Path) -> Iterator[Limit]:
    used = _number(folder / "memory.current")
    limits = [_number(folder / name) for name in ("memory.max", "memory.high")]
    given = [limit for limit in limits if limit is not None]
    if given and used is not None:
        fields = _fields(folder / "memory.stat")
        cached = fields.get("inactive_file", 0) + fields.get("active_file", 0)
        yield _cgroup_limit(folder, min(given), used - cached)


def _version_1(folder: Path) -> Iterator[Limit]:
    used = _number(folder / "memory.usage_in_bytes")
    given = _number(folder / "memory.limit_in_bytes")
    if given is not None and used is not None:
        fields = _fields(folder / "memory.stat")
        cached = fields.get("total_inactive_file", 0) + fields.get("total_active_file", 0)
        yield _cgroup_limit(folder, given, used - cached)


def _cgroup_limit(folder: Path, limit: int, used: int) -> Limit:
    return Limit(f"the cgroup {folder} ({format_bytes(limit)})", max(0, limit - max(0, used)))


def _number(path: Path) -> int | None:
    """Return the number in a file; None where there is no file or it says ``max``."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _fields(path: Path) -> dict[str, int]:
    """Return a file of lines ``name number ...`` as a dictionary."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    rows = (line.split() for line in lines)
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _floor(gib: float) -> float:
    """Return a size that is easily typed and not larger."""
    digits = 10 if gib >= 1 else 100
    return math.floor(gib * digits) / digits
