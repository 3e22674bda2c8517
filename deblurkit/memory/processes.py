"""Who holds the memory of a machine: users, processes, and the trees of one's own runs.

Resident memory (RSS) counts a page that processes share in each of them. Proportional memory (PSS) adds up,
and unique memory (USS) is what dies with a process; the kernel tells both of one's own processes, and root of
all.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, Protocol

import psutil

Role = Literal["main", "launcher", "rank", "worker", "helper", "other"]
_WORKER_NAME = "pt_data_worker"  # PyTorch calls a loader worker so
_SPAWNED = "multiprocessing.spawn"
_OWN_PART = "deblurkit."  # a module of this program that is run as one: a trial
_ATTRIBUTES = ("pid", "ppid", "uids", "username", "name", "cmdline", "create_time", "memory_info", "status")


@dataclass(frozen=True)
class Process:
    """A process and its memory [bytes]; None for what may not be seen.

    Attributes:
        pid: its number.
        parent: its parent's number; 1, or that of a session's keeper, once that has ended.
        uid: number of who runs it.
        user: name of who runs it; the number as text where there is no name for it.
        name: as the kernel has it.
        command: the program and its arguments.
        started_at: Unix seconds.
        rss_bytes: resident.
        pss_bytes: resident, each shared page divided by those who share it.
        uss_bytes: resident and not shared.
        swap_bytes: swapped out.
        rank: its number among those that train together, inherited by its children; None without.
    """

    pid: int
    parent: int
    uid: int | None
    user: str | None
    name: str
    command: tuple[str, ...]
    started_at: float
    rss_bytes: int | None
    pss_bytes: int | None = None
    uss_bytes: int | None = None
    swap_bytes: int | None = None
    rank: int | None = None


class ProcessReader(Protocol):
    """Who tells of processes; tests have one of their own."""

    def processes(self) -> list[Process]:
        """Return all that are seen, with RSS alone."""
        ...

    def closely(self, process: Process) -> Process:
        """Return a process with all that may be seen of it."""
        ...


class SystemProcesses:
    """The processes of this machine, by psutil; needs no rights, and sees more with them."""

    def processes(self) -> list[Process]:
        """Return all that are seen, with RSS alone; those that end meanwhile are left out.

        So are those that have ended and whose parent has not asked how: they hold nothing.
        """
        found = (process.info for process in psutil.process_iter(_ATTRIBUTES))
        return [_of_info(info) for info in found if info["status"] != psutil.STATUS_ZOMBIE]

    def closely(self, process: Process) -> Process:
        """Return a process with PSS, USS, swap and rank, as far as this user may see them."""
        with contextlib.suppress(psutil.Error, OSError):
            found = psutil.Process(process.pid)
            full = found.memory_full_info()
            process = replace(
                process, rss_bytes=full.rss, pss_bytes=full.pss, uss_bytes=full.uss, swap_bytes=full.swap
            )
            rank = found.environ().get("RANK", "")
            process = replace(process, rank=int(rank) if rank.isdigit() else None)
        return process


@dataclass(frozen=True)
class Group:
    """Processes of one kind in a tree, and their memory together [bytes].

    Attributes:
        role: what they are: ``main`` trains alone, ``launcher`` has started ranks, ``worker`` is forked or
            spawned by one of them to load data, ``helper`` is one that this program has spawned to predict,
            try or convert, ``other`` is any other descendant.
        rank: whose they are; None where a single process trains.
        members: the processes, largest first.
        rss_bytes: sum of RSS, in which shared pages count several times.
        pss_bytes: sum of PSS, which is what they really take; None where one of them may not be seen.
        uss_bytes: sum of USS; likewise.
        unseen: members whose PSS may not be seen.
    """

    role: Role
    rank: int | None
    members: tuple[Process, ...]
    rss_bytes: int
    pss_bytes: int | None
    uss_bytes: int | None
    unseen: int


@dataclass(frozen=True)
class Tree:
    """A process and all that come from it.

    Attributes:
        root: the process.
        groups: in order: the root's, then each rank's and its workers', then the others.
        total: all together.
    """

    root: Process
    groups: tuple[Group, ...]
    total: Group


@dataclass(frozen=True)
class UserMemory:
    """What the processes of a user hold [bytes].

    Attributes:
        user: name, or number as text.
        processes: how many are seen.
        rss_bytes: sum of RSS; pages that they share count several times, so it may be more than they take.
    """

    user: str
    processes: int
    rss_bytes: int


@dataclass(frozen=True)
class Holders:
    """Who holds most of a machine's memory.

    Attributes:
        users: by the sum of RSS, largest first.
        largest: processes, largest first; PSS and USS are known of those that may be looked into.
        unseen_processes: processes that are seen, but not how much they hold.
    """

    users: tuple[UserMemory, ...]
    largest: tuple[Process, ...]
    unseen_processes: int


def holders(reader: ProcessReader, *, most: int = 10) -> Holders:
    """Return the users and processes that hold most memory.

    Args:
        reader: who tells of processes.
        most: of each, how many to return.
    """
    found = reader.processes()
    known = [process for process in found if process.rss_bytes is not None]
    largest = sorted(known, key=lambda process: -(process.rss_bytes or 0))[:most]
    users = sorted(_by_user(known), key=lambda user: -user.rss_bytes)[:most]
    closely = tuple(reader.closely(process) for process in largest)
    return Holders(tuple(users), closely, len(found) - len(known))


def process_tree(reader: ProcessReader, pid: int) -> Tree | None:
    """Return a process and its descendants in groups; None where no such process is seen."""
    found = {process.pid: process for process in reader.processes()}
    return _tree(reader, found, found[pid]) if pid in found else None


def own_runs(
    reader: ProcessReader,
    *,
    uid: int | None = None,
    is_ours: Callable[[Process], bool] | None = None,
    but: int | None = None,
) -> list[Tree]:
    """Return the trees of a user's runs of this program, largest first.

    A worker whose run has been killed is the root of a tree of its own.

    Args:
        reader: who tells of processes.
        uid: of the user; None is who asks.
        is_ours: whether a process is to be looked for; by default those whose program or module is deblurkit.
        but: a process that does not count, and no descendant of it: the one that asks; None is this one.
    """
    uid, but = os.getuid() if uid is None else uid, os.getpid() if but is None else but
    wanted = is_ours or is_deblurkit
    found = {process.pid: process for process in reader.processes()}
    ours = {pid for pid, process in found.items() if process.uid == uid and wanted(process) and pid != but}
    roots = [found[pid] for pid in ours if ours.isdisjoint(_ancestors(found, pid))]
    trees = [_tree(reader, found, root) for root in roots if but not in _ancestors(found, root.pid)]
    return sorted(trees, key=lambda tree: tree.total.rss_bytes, reverse=True)


def is_deblurkit(process: Process) -> bool:
    """Return whether a process runs this program, by its name or as a module."""
    is_named = any(os.path.basename(word) == "deblurkit" for word in process.command[:2])
    return is_named or _module_of(process) == "deblurkit"


def _module_of(process: Process) -> str | None:
    """Return the module that a process of Python runs as its program; None where it runs none."""
    return next((after for word, after in pairwise(process.command[:4]) if word == "-m"), None)


def _of_info(info: Mapping[str, object]) -> Process:
    memory, uids = info["memory_info"], info["uids"]
    uid = getattr(uids, "real", None)
    command = info["cmdline"]
    return Process(
        pid=int(str(info["pid"])),
        parent=int(str(info["ppid"] or 0)),
        uid=uid,
        user=str(info["username"]) if info["username"] else None if uid is None else str(uid),
        name=str(info["name"] or ""),
        command=tuple(map(str, command)) if isinstance(command, Sequence) else (),
        started_at=float(str(info["create_time"] or 0)),
        rss_bytes=getattr(memory, "rss", None),
    )


def _by_user(processes: Iterable[Process]) -> Iterator[UserMemory]:
    of_user: dict[str, list[int]] = defaultdict(list)
    for process in processes:
        of_user[process.user or "unknown"].append(process.rss_bytes or 0)
    for user, sizes in of_user.items():
        yield UserMemory(user, len(sizes), sum(sizes))


def _ancestors(found: Mapping[int, Process], pid: int) -> set[int]:
    """Return the numbers of all that a process comes from; the process itself is not among them."""
    seen: set[int] = set()
    while pid in found and (parent := found[pid].parent) not in seen and parent != pid:
        seen.add(parent)
        pid = parent
    return seen


def _tree(reader: ProcessReader, found: Mapping[int, Process], root: Process) -> Tree:
    members = [reader.closely(each) for each in found.values() if root.pid in _ancestors(found, each.pid)]
    root = reader.closely(root)
    together = {each.pid: each for each in (root, *members)}
    of_kind: dict[tuple[Role, int | None], list[Process]] = defaultdict(list)
    for process in together.values():
        of_kind[_role(process, root, together), process.rank].append(process)
    groups = [group_of(role, rank, of_kind[role, rank]) for role, rank in sorted(of_kind, key=_in_order)]
    return Tree(root, tuple(groups), group_of(groups[0].role, None, together.values()))


def _in_order(kind: tuple[Role, int | None]) -> tuple[bool, int, int]:
    role, rank = kind
    place = ("launcher", "main", "rank", "worker", "helper", "other").index(role)
    return rank is None and place > 1, -1 if rank is None else rank, place


def _role(process: Process, root: Process, found: Mapping[int, Process]) -> Role:
    parent = found.get(process.parent)
    if process.name == _WORKER_NAME:
        return "worker"
    if process.rank is not None and (parent is None or parent.rank != process.rank):
        return "rank"
    if process is root:
        return "launcher" if any(each.rank is not None for each in found.values()) else "main"
    if _is_copy(process, parent):
        return "worker"
    if (_module_of(process) or "").startswith(_OWN_PART):
        return "helper"
    if not any(_SPAWNED in word for word in process.command):
        return "other"
    return "helper" if is_deblurkit(root) else "worker"  # our own loader workers are forked


def _is_copy(process: Process, parent: Process | None) -> bool:
    """Return whether a process of Python was forked: nothing but the number is new."""
    program = os.path.basename(process.command[0]) if process.command else ""
    is_python = program.startswith("python") or program == "deblurkit"
    return parent is not None and is_python and process.command == parent.command


def group_of(role: Role, rank: int | None, members: Iterable[Process]) -> Group:
    """Return processes as a group, largest first."""
    ordered = sorted(members, key=lambda process: -(process.rss_bytes or 0))
    return Group(
        role=role,
        rank=rank,
        members=tuple(ordered),
        rss_bytes=sum(process.rss_bytes or 0 for process in ordered),
        pss_bytes=_sum(process.pss_bytes for process in ordered),
        uss_bytes=_sum(process.uss_bytes for process in ordered),
        unseen=sum(process.pss_bytes is None for process in ordered),
    )


def _sum(values: Iterable[int | None]) -> int | None:
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)
