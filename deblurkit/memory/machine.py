"""Where a machine tells of its memory; tests have trees of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deblurkit import cgroups

_KTHREADD = 2  # of the outermost process namespace, always; no other has kernel threads


@dataclass(frozen=True)
class Machine:
    """The files that are read.

    Attributes:
        proc: the proc file system.
        shm: where processes share memory.
        cgroup_root: where the cgroup file systems are mounted.
        statvfs: asks a file system for its size.
    """

    proc: Path = Path("/proc")
    shm: Path = Path("/dev/shm")
    cgroup_root: Path = cgroups.ROOT
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs

    def process(self, pid: int | None) -> Path:
        """Return the folder of a process; None is this one."""
        return self.proc / ("self" if pid is None else str(pid))

    def memory_groups(self, pid: int | None) -> Iterator[cgroups.Cgroup]:
        """Yield the control groups that bound a process's memory, innermost first."""
        membership = self.process(pid) / "cgroup"
        return cgroups.own_cgroups("memory", root=self.cgroup_root, membership=membership)

    def meminfo(self) -> dict[str, int]:
        """Return the fields of meminfo [bytes], by their names without a colon."""
        fields = cgroups.read_fields(self.proc / "meminfo")
        return {name.rstrip(":"): 1024 * value for name, value in fields.items()}


THIS_MACHINE = Machine()


def unseen_processes(machine: Machine = THIS_MACHINE) -> list[str]:
    """Return why processes of this machine may not be seen, a line each; none where all are.

    Where /proc hides what is others', whether there is a container besides cannot be told.
    """
    if _sees_kernel_threads(machine):
        return []
    if _are_hidden(machine):
        return ["/proc is mounted with hidepid: other users' processes are not seen, their memory is"]
    return ["this is a container: processes outside it are not seen, their memory is"]


def _sees_kernel_threads(machine: Machine) -> bool:
    try:
        return (machine.proc / str(_KTHREADD) / "comm").read_text().strip() == "kthreadd"
    except OSError:
        return False


def _are_hidden(machine: Machine) -> bool:
    try:
        mounts = (machine.proc / "self" / "mounts").read_text(errors="replace").splitlines()
    except OSError:
        return False
    options = [
        fields[3].split(",") for line in mounts if len(fields := line.split()) > 3 and fields[2] == "proc"
    ]
    hiding = {"hidepid=1", "hidepid=2", "hidepid=invisible", "hidepid=noaccess", "hidepid=ptraceable"}
    return any(hiding.intersection(given) for given in options)
