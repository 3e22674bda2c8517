"""What bounds the memory of a process on this machine, and how much of it is left: one row each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deblurkit import cgroups
from deblurkit.memory.machine import THIS_MACHINE, Machine

Kind = Literal["ram", "commit", "swap", "cgroup", "cgroup-swap", "ulimit", "shm"]
_ALWAYS_CHECKED = "2"  # of vm.overcommit_memory


@dataclass(frozen=True)
class Resource:
    """Something that gives memory, or that bounds what is given [bytes]; None where it is not known.

    Attributes:
        kind: what it is; see ``Kind``.
        name: as a user knows it.
        limit_bytes: None where no limit is set.
        used_bytes: by all that share it, page cache in it.
        available_bytes: what can be had without taking it from another; page cache counts as available.
        source: the file or folder that says so.
        beyond: what happens to who asks for more.
        unseen: what the figures may not show; empty where they show all.
    """

    kind: Kind
    name: str
    limit_bytes: int | None
    used_bytes: int | None
    available_bytes: int | None
    source: Path
    beyond: str
    unseen: str = ""


@dataclass(frozen=True)
class _Ulimit:
    option: str
    limit: str  # as /proc/PID/limits names it
    used: str  # as /proc/PID/status does
    beyond: str


_ULIMITS = (
    _Ulimit("-v", "Max address space", "VmSize:", "an allocation fails (MemoryError)"),
    _Ulimit("-d", "Max data size", "VmData:", "an allocation fails (MemoryError)"),
    _Ulimit("-m", "Max resident set", "VmRSS:", "nothing: Linux does not heed this limit"),
    _Ulimit(
        "-l",
        "Max locked memory",
        "VmLck:",
        "locking pages fails (mlock); CUDA's pinned memory is not counted",
    ),
)
_OF_GROUPS = {
    "memory.max": "the kernel kills a process of the group",
    "memory.limit_in_bytes": "the kernel kills a process of the group",
    "memory.high": "the kernel slows the group down and takes its page cache",
    "memory.swap.max": "no more of the group is swapped out",
    "memory.memsw.limit_in_bytes": "the kernel kills a process of the group",
}


def host_limits(machine: Machine = THIS_MACHINE, *, pid: int | None = None) -> list[Resource]:
    """Return what bounds the memory of a process: RAM, swap, control groups, ulimits, shared memory.

    What a machine does not tell has no row; a control group whose files cannot be read has one that says so.

    Args:
        machine: what is read.
        pid: of the process; None is this one.
    """
    return [
        *_of_meminfo(machine),
        *_of_groups(machine, pid),
        *_of_ulimits(machine.process(pid)),
        *_of_shared_memory(machine),
    ]


def tightest(resources: Sequence[Resource], *, kinds: Sequence[Kind] = ("ram", "cgroup")) -> Resource | None:
    """Return the resource of these kinds with the least available; None where none is known.

    ``ulimit`` is not among them by itself: it counts address space, of which a process has much more than
    memory.
    """
    known = [each for each in resources if each.kind in kinds and each.available_bytes is not None]
    return min(known, key=lambda each: each.available_bytes or 0, default=None)


def _of_meminfo(machine: Machine) -> Iterator[Resource]:
    fields, source = machine.meminfo(), machine.proc / "meminfo"
    total, available = fields.get("MemTotal"), fields.get("MemAvailable")
    if total is not None and available is not None:
        used = total - fields.get("MemFree", available)
        yield Resource("ram", "RAM", total, used, available, source, "the kernel kills the largest process")
    total, free = fields.get("SwapTotal"), fields.get("SwapFree")
    if total is not None and free is not None:
        yield Resource("swap", "swap", total, total - free, free, source, "no more memory is swapped out")
    total, used = fields.get("CommitLimit"), fields.get("Committed_AS", 0)
    if total is not None and _is_commit_bounded(machine):
        beyond = "an allocation fails (MemoryError): vm.overcommit_memory is 2"
        yield Resource("commit", "commit limit", total, used, max(0, total - used), source, beyond)


def _is_commit_bounded(machine: Machine) -> bool:
    try:
        return (machine.proc / "sys/vm/overcommit_memory").read_text().strip() == _ALWAYS_CHECKED
    except OSError:
        return False


def _of_groups(machine: Machine, pid: int | None) -> list[Resource]:
    groups = list(machine.memory_groups(pid))
    rows = [row for group in groups for row in _of_group(group, _above(group, groups))]
    return rows if rows or not groups else [_unread(groups[0])]


def _above(group: cgroups.Cgroup, groups: Sequence[cgroups.Cgroup]) -> str:
    """Return what is not seen of the groups above one: nothing but for the outermost of a container."""
    of_version = [each for each in groups if each.version == group.version]
    if group is of_version[-1] and _has_ancestors_elsewhere(of_version):
        return "limits of the groups above it are not seen from this container"
    return ""


def _has_ancestors_elsewhere(groups: Sequence[cgroups.Cgroup]) -> bool:
    """Return whether the outermost group that is seen has others above it, as a container's has.

    The true root of version 2 has no ``memory.max``; version 1 mounts a container's group as if it were the
    root, under which the group that the process is listed in is then missing.
    """
    if groups[-1].version == 2:
        return (groups[-1].folder / "memory.max").exists()
    return len(groups) > 1 and not groups[0].folder.exists()


def _of_group(group: cgroups.Cgroup, above: str) -> Iterator[Resource]:
    memory = cgroups.group_memory(group)
    if memory.used is None and not memory.limits:
        return
    anonymous = None if memory.used is None else max(0, memory.used - memory.page_cache)
    for name, limit in memory.limits.items():
        of_swap = name in cgroups.OF_SWAP
        used = _swapped(group, name) if of_swap else memory.used
        held = used if of_swap else anonymous
        available = None if held is None else max(0, limit - held)
        kind: Kind = "cgroup-swap" if of_swap else "cgroup"
        source = group.folder / name
        yield Resource(kind, f"cgroup {name}", limit, used, available, source, _OF_GROUPS[name], above)
    if not memory.limits:
        name = "memory.max" if group.version == 2 else "memory.limit_in_bytes"
        source = group.folder / name
        yield Resource("cgroup", f"cgroup {name}", None, memory.used, None, source, "no limit is set", above)


def _unread(group: cgroups.Cgroup) -> Resource:
    unseen = "the files of this process's control groups are not seen from here"
    return Resource("cgroup", "cgroup", None, None, None, group.folder, "not known", unseen)


def _swapped(group: cgroups.Cgroup, name: str) -> int | None:
    """Return what counts against a limit on swap; version 1 counts memory and swap together."""
    used = "memory.swap.current" if name == "memory.swap.max" else "memory.memsw.usage_in_bytes"
    return cgroups.read_number(group.folder / used)


def _of_ulimits(folder: Path) -> Iterator[Resource]:
    try:
        lines = (folder / "limits").read_text().splitlines()
    except OSError:
        return
    status = cgroups.read_fields(folder / "status")
    for each in _ULIMITS:
        soft = next(
            (line[len(each.limit) :].split()[0] for line in lines if line.startswith(each.limit)), None
        )
        if soft is None:
            continue
        limit = int(soft) if soft.isdigit() else None
        used = 1024 * status[each.used] if each.used in status else None
        left = None if limit is None or used is None else max(0, limit - used)
        beyond, source = each.beyond if limit is not None else "no limit is set", folder / "limits"
        unseen = "counts this process alone: each process has as much"
        yield Resource("ulimit", f"ulimit {each.option}", limit, used, left, source, beyond, unseen)


def _of_shared_memory(machine: Machine) -> Iterator[Resource]:
    beyond = "a worker ends with a bus error, or a file cannot be written"
    try:
        found = machine.statvfs(machine.shm)
    except OSError as error:
        unseen = f"cannot be looked at: {error.strerror}"
        yield Resource("shm", str(machine.shm), None, None, None, machine.shm, beyond, unseen)
        return
    if not found.f_blocks:  # a tmpfs without a size says 0
        yield Resource(
            "shm", str(machine.shm), None, None, None, machine.shm, "RAM and control groups bound it"
        )
        return
    size, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    unseen = "a size only: what lies in it takes RAM and counts in the control groups"
    yield Resource("shm", str(machine.shm), size, used, free, machine.shm, beyond, unseen)
