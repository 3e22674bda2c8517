"""A run's own memory while it goes on: its processes, what bounds them, and what PyTorch holds on a GPU."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deblurkit import cgroups
from deblurkit.memory.leaks import Owner
from deblurkit.memory.limits import Resource, host_limits, tightest
from deblurkit.memory.machine import THIS_MACHINE, Machine

if TYPE_CHECKING:
    import torch

_PAGE = os.sysconf("SC_PAGE_SIZE")
_KIB = 1024


@dataclass(frozen=True)
class ProcessMemory:
    """What a process holds [bytes]; None for what the kernel does not tell.

    Attributes:
        owner: which process.
        rss_bytes: resident; what processes share counts in each.
        pss_bytes: what is really its own, shared pages divided by those who share them; swapped out or not.
        uss_bytes: resident and not shared.
    """

    owner: Owner
    rss_bytes: int
    pss_bytes: int | None
    uss_bytes: int | None

    @property
    def held_bytes(self) -> int:
        """PSS, or RSS where that is all that is known."""
        return self.rss_bytes if self.pss_bytes is None else self.pss_bytes


@dataclass(frozen=True)
class CudaMemory:
    """A GPU as the process that computes on it sees it [bytes].

    Attributes:
        device: as PyTorch names it.
        allocated_bytes: of this process's tensors; likewise below with PyTorch's meaning.
        reserved_bytes: that PyTorch has taken from the GPU.
        peak_allocated_bytes: since the start.
        free_bytes: of the GPU, whoever uses it.
        total_bytes: of the GPU.
    """

    device: str
    allocated_bytes: int
    reserved_bytes: int
    peak_allocated_bytes: int
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class MemoryLook:
    """The memory of one process of a run and of its workers at one moment.

    Attributes:
        processes: the process, then its workers in the order in which they were started.
        limits: what bounds them, as `host_limits` gives it.
        cache_bytes: of the node's cache of decoded frames; None without one.
        cuda: of its GPU; None without one.
    """

    processes: tuple[ProcessMemory, ...]
    limits: tuple[Resource, ...]
    cache_bytes: int | None = None
    cuda: CudaMemory | None = None

    @property
    def own(self) -> ProcessMemory:
        """The process itself."""
        return self.processes[0]

    @property
    def workers(self) -> tuple[ProcessMemory, ...]:
        """Its workers."""
        return self.processes[1:]

    @property
    def held_bytes(self) -> int:
        """What all of them hold together."""
        return sum(process.held_bytes for process in self.processes)

    @property
    def tightest(self) -> Resource | None:
        """Of RAM and control groups, what has least left."""
        return tightest(self.limits)

    @property
    def shm(self) -> Resource | None:
        """Shared memory."""
        return next((limit for limit in self.limits if limit.kind == "shm"), None)


class MemoryMonitor:
    """Reads what a process of a run, its workers and its GPU hold.

    Args:
        own: the process.
        workers: gives the numbers of its workers, in their order.
        cuda: asks its GPU; None without one.
        cuda_reserved: asks it for what PyTorch has reserved alone, which is quicker.
        cache_bytes: asks the cache; None without one.
        machine: what is read.
    """

    def __init__(
        self,
        own: Owner,
        *,
        workers: Callable[[], Sequence[int]] | None = None,
        cuda: Callable[[], CudaMemory] | None = None,
        cuda_reserved: Callable[[], int] | None = None,
        cache_bytes: Callable[[], int] | None = None,
        machine: Machine = THIS_MACHINE,
    ) -> None:
        self._own = own
        self._workers = workers or own_workers
        self._cuda, self._cuda_reserved = cuda, cuda_reserved
        self._cache_bytes = cache_bytes
        self._machine = machine
        self._known = self._owners()

    def anonymous(self) -> dict[Owner, int]:
        """Return what each process holds of memory that no file is behind, and what is reserved on the GPU.

        It is resident memory without files and shared memory, of which the kernel keeps count: a read of a
        few microseconds. A page that a worker copies counts before and after; what anybody adds counts.
        """
        sizes = {owner: self._anonymous_of(owner) for owner in self._known}
        if None in sizes.values():
            self._known = self._owners()
        known = {owner: size for owner, size in sizes.items() if size is not None}
        if self._cuda_reserved is not None:
            known[Owner("cuda", self._own.pid)] = self._cuda_reserved()
        return known

    def look(self) -> MemoryLook:
        """Return all that there is to see; PSS takes the kernel about a millisecond for 100 MiB."""
        self._known = self._owners()
        found = [self._closely(owner) for owner in self._known]
        return MemoryLook(
            processes=tuple(process for process in found if process is not None),
            limits=tuple(host_limits(self._machine, pid=self._pid())),
            cache_bytes=None if self._cache_bytes is None else self._cache_bytes(),
            cuda=None if self._cuda is None else self._cuda(),
        )

    def _owners(self) -> list[Owner]:
        return [self._own, *(Owner("worker", pid, at) for at, pid in enumerate(self._workers()))]

    def _pid(self) -> int | None:
        return None if self._own.pid == os.getpid() else self._own.pid

    def _anonymous_of(self, owner: Owner) -> int | None:
        pages = self._pages(owner)
        return None if pages is None else _PAGE * (pages[1] - pages[2])

    def _pages(self, owner: Owner) -> tuple[int, int, int] | None:
        """Return the pages of address space, those in memory, and of these the shared; None once gone."""
        try:
            with open(f"{self._machine.proc}/{owner.pid}/statm", "rb", buffering=0) as file:
                size, resident, shared, *_ = map(int, file.read().split())
        except (OSError, ValueError):
            return None
        return size, resident, shared

    def _closely(self, owner: Owner) -> ProcessMemory | None:
        pages = self._pages(owner)
        if pages is None:
            return None
        fields = cgroups.read_fields(self._machine.process(owner.pid) / "smaps_rollup")
        if "Pss:" not in fields:
            return ProcessMemory(owner, _PAGE * pages[1], None, None)
        private = ("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:")
        return ProcessMemory(
            owner=owner,
            rss_bytes=_KIB * fields["Rss:"],
            pss_bytes=_KIB * (fields["Pss:"] + fields.get("SwapPss:", 0)),
            uss_bytes=_KIB * sum(fields.get(name, 0) for name in private),
        )


def own_workers() -> list[int]:
    """Return the numbers of the processes that this one has started by ``multiprocessing``, in order."""
    return sorted(child.pid for child in multiprocessing.active_children() if child.pid is not None)


def cuda_memory(device: torch.device) -> CudaMemory:
    """Return what a GPU holds; it is not waited for."""
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return CudaMemory(
        device=str(device),
        allocated_bytes=torch.cuda.memory_allocated(device),
        reserved_bytes=torch.cuda.memory_reserved(device),
        peak_allocated_bytes=torch.cuda.max_memory_allocated(device),
        free_bytes=free,
        total_bytes=total,
    )
