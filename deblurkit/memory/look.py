"""A machine's memory at one moment: what it gives, who holds it, and what may not be seen of it."""

from __future__ import annotations

import itertools
import os
import platform
import pwd
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from deblurkit.memory.gpu import GpuLook, GpuReader, NvmlGpus
from deblurkit.memory.kernel_log import KernelLog, read_kernel_log
from deblurkit.memory.limits import Resource, host_limits
from deblurkit.memory.machine import THIS_MACHINE, Machine, unseen_processes
from deblurkit.memory.pressure import OomCount, Pressure, memory_pressure, oom_counts
from deblurkit.memory.processes import (
    Holders,
    Process,
    ProcessReader,
    SystemProcesses,
    Tree,
    holders,
    own_runs,
    process_tree,
)
from deblurkit.memory.remains import CACHE, Remain
from deblurkit.memory.remains import remains as all_remains
from deblurkit.memory.sparing import OneLook
from deblurkit.units import plural

_MOST = 8  # users, and processes, that are named
_STARTED_BY = re.compile(r"^from multiprocessing\.(\w+) import ")
_STARTED_FOR = {"spawn": "child", "forkserver": "fork server"}  # by the module that it begins with
_OF_PYTHON = ("-u", "-B", "-O", "-E", "-s", "-I")  # its options before a program or a module
_HIERARCHIES = (("memory",), ("unified",))  # folders that version 1 has above its groups


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@dataclass(frozen=True)
class Sources:
    """Who tells of a machine; a recording takes the place of any of them.

    Attributes:
        machine: files of the system.
        processes: who runs, and holds how much.
        gpus: the driver.
        remains: what lies in shared memory.
        kernel_log: what the kernel has written down.
        booted_at: Unix seconds of the last boot.
        clock: Unix seconds of now.
        sleep: waits for so many seconds.
        hostname: of the machine.
        uid: number of who asks.
        user: name of who asks.
    """

    machine: Machine = THIS_MACHINE
    processes: ProcessReader = field(default_factory=SystemProcesses)
    gpus: GpuReader = field(default_factory=NvmlGpus)
    remains: Callable[[], Sequence[Remain]] = all_remains
    kernel_log: Callable[[], KernelLog] = read_kernel_log
    booted_at: Callable[[], float] = psutil.boot_time
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    hostname: Callable[[], str] = platform.node
    uid: Callable[[], int] = os.getuid
    user: Callable[[], str] = _own_name


@dataclass(frozen=True)
class Look:
    """What there was to see of a machine's memory at one moment.

    Attributes:
        at: Unix seconds.
        hostname: of the machine.
        user: who has looked.
        limits: what bounds the memory of a process.
        pressure: whether tasks wait for memory.
        oom_counts: how often it has run out.
        gpus: as the driver tells.
        holders: users and processes with most memory.
        trees: one's own runs of this program, or the process that was asked for.
        remains: what lies in shared memory; empty where nobody has looked.
        unseen: what may not be seen, a line each.
    """

    at: float
    hostname: str
    user: str
    limits: tuple[Resource, ...]
    pressure: tuple[Pressure, ...]
    oom_counts: tuple[OomCount, ...]
    gpus: GpuLook
    holders: Holders
    trees: tuple[Tree, ...]
    remains: tuple[Remain, ...] = ()
    unseen: tuple[str, ...] = ()


def look(sources: Sources, *, pid: int | None = None) -> Look:
    """Return what there is to see now.

    Args:
        sources: who tells.
        pid: of a process that lives, whose limits and tree are wanted; None is who asks, and its runs.
    """
    return replace(glance(sources, pid=pid), remains=tuple(sources.remains()))


def glance(sources: Sources, *, pid: int | None = None) -> Look:
    """Return what `look` does without what lies in shared memory, which takes a look into every process."""
    once = OneLook(sources.processes)
    seen = Look(
        at=sources.clock(),
        hostname=sources.hostname(),
        user=sources.user(),
        limits=tuple(host_limits(sources.machine, pid=pid)),
        pressure=tuple(memory_pressure(sources.machine, pid=pid)),
        oom_counts=tuple(oom_counts(sources.machine, pid=pid)),
        gpus=sources.gpus.look(),
        holders=holders(once, most=_MOST),
        trees=tuple(_trees(once, sources.uid(), pid)),
    )
    return replace(seen, unseen=tuple(dict.fromkeys(_unseen(sources, seen))))


def is_seen(sources: Sources, pid: int) -> bool:
    """Return whether a process of that number lives."""
    return any(process.pid == pid for process in sources.processes.processes())


def name_of(limit: Resource) -> str:
    """Return a name that tells a control group's limit from the same one of another group."""
    return f"{limit.name} of {_group(limit.source)}" if limit.kind.startswith("cgroup") else limit.name


def program_of(process: Process) -> str:
    """Return a process as a person knows it: the program and its first arguments, without their folders."""
    part = _of_multiprocessing(process.command)
    if part is not None:
        return f"multiprocessing {part} of process {process.parent}"
    words = [os.path.basename(word) if "/" in word and " " not in word else word for word in process.command]
    if len(words) > 1 and words[0].startswith("python"):
        words = [*itertools.dropwhile(lambda word: word in _OF_PYTHON, words[1:])]
        words = words[1:] if words[:1] == ["-m"] else words
    named = [*words[:4], *_folder_in(words[4:])]
    return " ".join(printable(" ".join(named)).split()) or printable(process.name)


def _folder_in(words: Sequence[str]) -> Sequence[str]:
    """Return the option that says which folder a run is in, which tells one of a kind from another."""
    return next((words[at : at + 2] for at, word in enumerate(words) if word in ("--output", "-o")), ())


def _of_multiprocessing(command: Sequence[str]) -> str | None:
    """Return what Python's multiprocessing has started a process for, None where it has not."""
    started = (_STARTED_BY.search(word) for word in command)
    module = next((found[1] for found in started if found), None)
    return None if module is None else _STARTED_FOR.get(module, module.replace("_", " "))


def printable(text: str) -> str:
    """Return a text without what would steer a terminal: others choose the names that are shown."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def removal_of(remain: Remain, *, user: str | None = None) -> str | None:
    """Return the command that takes away what nobody holds any more; None for what may still be of use.

    That of a cache takes all of the user's in the same place that nobody holds at the time.

    Args:
        remain: as found.
        user: who would run it; another one's things take root.
    """
    if remain.state != "dead" or not str(remain.path).isprintable():
        return None
    if remain.path is None:
        command = f"ipcrm -m {remain.what.rpartition(' ')[2]}"
    elif remain.what == CACHE:
        # A new run may take up the folder at any time: what removes it has to hold its lock.
        command = shlex.join([sys.executable, "-m", "deblurkit.cache", str(remain.path.parent)])
    else:
        command = f"rm -r -- {shlex.quote(str(remain.path))}"
    return command if user in (None, remain.user) else f"sudo {command}"


def _group(source: Path) -> str:
    """Return a control group's path below where its file system is mounted."""
    parts = source.parent.parts
    below = parts[parts.index("cgroup") + 1 :] if "cgroup" in parts else parts[1:]
    return "/" + "/".join(below[1:] if below[:1] in _HIERARCHIES else below)


def _trees(processes: ProcessReader, uid: int, pid: int | None) -> list[Tree]:
    if pid is None:
        return own_runs(processes, uid=uid)
    tree = process_tree(processes, pid)
    return [] if tree is None else [tree]


def _unseen(sources: Sources, seen: Look) -> Iterator[str]:
    yield from unseen_processes(sources.machine)
    yield from seen.gpus.unseen
    for gpu in seen.gpus.gpus:
        yield from (f"GPU {gpu.index}: {line}" for line in gpu.unseen)
    yield from (f"{name_of(limit)}: {limit.unseen}" for limit in seen.limits if _is_doubtful(limit))
    if seen.holders.unseen_processes:
        yield f"{plural(seen.holders.unseen_processes, 'process')} whose memory is not told"
    dark = [process for process in seen.holders.largest if process.pss_bytes is None]
    if dark:
        yield _why_dark(dark, is_root=sources.uid() == 0)
    if any(tree.total.unseen for tree in seen.trees):
        yield "PSS of some processes of these runs: another user's, or they have just ended"


def _why_dark(dark: Sequence[Process], *, is_root: bool) -> str:
    """Return why PSS and USS of processes are not told."""
    if not is_root:
        return "PSS and USS of other users' processes: root sees them"
    named = ", ".join(f"{each.pid} ({printable(each.name)})" for each in dark)
    return f"PSS and USS of {named}: just ending, or this container may not look into them"


def _is_doubtful(limit: Resource) -> bool:
    """Return whether something is not seen of a limit that a limit of its kind usually shows."""
    is_usual = limit.kind == "ulimit" or (limit.kind == "shm" and limit.limit_bytes is not None)
    return bool(limit.unseen) and not is_usual
