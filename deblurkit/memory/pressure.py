"""Whether memory is or was short: what the kernel notes of waiting for it and of killing for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deblurkit import cgroups
from deblurkit.memory.machine import THIS_MACHINE, Machine


@dataclass(frozen=True)
class Stall:
    """How long tasks have waited for memory.

    Attributes:
        share_10s: of the last 10 seconds, between 0 and 1; likewise of the last 60 and 300.
        share_60s: see there.
        share_300s: see there.
        total_seconds: since boot, or since the control group was made.
    """

    share_10s: float
    share_60s: float
    share_300s: float
    total_seconds: float


@dataclass(frozen=True)
class Pressure:
    """Pressure Stall Information (PSI) of the machine or of a control group.

    Attributes:
        source: the file that says so.
        some: at least one task waited.
        full: all tasks waited at once; None where that is not told.
    """

    source: Path
    some: Stall
    full: Stall | None


@dataclass(frozen=True)
class OomCount:
    """How often memory has run out, since boot or since the control group was made.

    Attributes:
        source: the file that says so.
        is_machine: whether it is of the whole machine, not of a control group.
        kills: processes that the kernel has killed for want of memory; in the descendants of a group too.
        refusals: times that the group's limit was met and nothing could be freed (version 2), or that it was
            met at all (version 1); None where it is not told.
    """

    source: Path
    is_machine: bool
    kills: int
    refusals: int | None


def memory_pressure(machine: Machine = THIS_MACHINE, *, pid: int | None = None) -> list[Pressure]:
    """Return the pressure on the machine and on each control group of a process, as far as it is kept."""
    paths = [machine.proc / "pressure/memory"]
    paths += [group.folder / "memory.pressure" for group in machine.memory_groups(pid) if group.version == 2]
    return [found for path in paths if (found := _pressure(path)) is not None]


def oom_counts(machine: Machine = THIS_MACHINE, *, pid: int | None = None) -> list[OomCount]:
    """Return how often memory has run out in the control groups of a process, innermost first, and at all."""
    groups = [count for group in machine.memory_groups(pid) for count in _count(group)]
    kills = cgroups.read_fields(machine.proc / "vmstat").get("oom_kill")
    return groups if kills is None else [*groups, OomCount(machine.proc / "vmstat", True, kills, None)]


def _pressure(path: Path) -> Pressure | None:
    try:
        lines = path.read_text().splitlines()
        found = {words[0]: _stall(words[1:]) for line in lines if (words := line.split())}
    except (OSError, ValueError, KeyError):
        return None
    return Pressure(path, found["some"], found.get("full")) if "some" in found else None


def _stall(words: list[str]) -> Stall:
    values = {name: float(value) for name, value in (word.split("=") for word in words)}
    last_10s, last_60s, last_300s = (values[name] / 100 for name in ("avg10", "avg60", "avg300"))
    return Stall(last_10s, last_60s, last_300s, values["total"] / 1e6)


def _count(group: cgroups.Cgroup) -> Iterator[OomCount]:
    name = "memory.events" if group.version == 2 else "memory.oom_control"
    fields = cgroups.read_fields(group.folder / name)
    if "oom_kill" in fields:
        met = (
            cgroups.read_number(group.folder / "memory.failcnt") if group.version == 1 else fields.get("oom")
        )
        yield OomCount(group.folder / name, False, fields["oom_kill"], met)
