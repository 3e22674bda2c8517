"""What a run takes of its machine, looked at from time to time: memory, processors, disk, GPU."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from deblurkit.memory.gpu import Gpu, find_gpu


@dataclass(frozen=True)
class VitalSigns:
    """One look at the machine; shares in percent, and None for what cannot be known here.

    Attributes:
        seconds: since the first look was made ready.
        rss_bytes: resident memory of this process and its workers; pages that they share count in each.
        host_used_percent: memory of the machine that is in use, whoever uses it.
        cpu_percent: of all processors of the machine, busy since the last look, whoever keeps them so.
        io_wait_percent: of all processors, idle since the last look because of a disk.
        disk_free_bytes: left to us where the run is written.
        written_bytes: that this process has written since the first look, as far as they went to a disk.
        gpu_busy_percent: share of the driver's last sampling period in which a kernel ran.
        gpu_used_bytes: memory of the GPU in use, whoever uses it.
    """

    seconds: float
    rss_bytes: int
    host_used_percent: float
    cpu_percent: float | None
    io_wait_percent: float | None
    disk_free_bytes: int
    written_bytes: int | None
    gpu_busy_percent: float | None
    gpu_used_bytes: int | None


class Vitals:
    """Looks when it is asked; no thread, and about a millisecond a look."""

    def __init__(
        self,
        folder: Path,
        *,
        device: torch.device,
        clock: Callable[[], float] = time.monotonic,
        gpu: Gpu | None = None,
    ) -> None:
        """Make ready: shares are counted from here.

        Args:
            folder: of the run, there already.
            device: that it computes on.
            clock: seconds.
            gpu: who answers for the GPU; None looks for ``device``.
        """
        self._folder = folder
        self._clock = clock
        self._began = clock()
        self._gpu = gpu if gpu is not None else find_gpu(device)
        self._own = psutil.Process()
        self._times = psutil.cpu_times()
        self._written = _written_bytes(self._own)

    def look(self) -> VitalSigns:
        """Return what there is to see now; shares are of the time since the last look."""
        busy, waiting = self._shares()
        written = _written_bytes(self._own)
        return VitalSigns(
            seconds=self._clock() - self._began,
            rss_bytes=self._rss(),
            host_used_percent=psutil.virtual_memory().percent,
            cpu_percent=busy,
            io_wait_percent=waiting,
            disk_free_bytes=psutil.disk_usage(str(self._folder)).free,
            written_bytes=None if written is None or self._written is None else written - self._written,
            gpu_busy_percent=None if self._gpu is None else self._gpu.busy_percent(),
            gpu_used_bytes=None if self._gpu is None else self._gpu.used_bytes(),
        )

    def _rss(self) -> int:
        """Sum over the workers that this process has started; a search of all processes would be slow."""
        total = self._own.memory_info().rss
        for child in multiprocessing.active_children():
            try:
                total += psutil.Process(child.pid).memory_info().rss
            except psutil.Error:  # it has just ended
                continue
        return int(total)

    def _shares(self) -> tuple[float | None, float | None]:
        before, self._times = self._times, psutil.cpu_times()
        return _shares_between(before._asdict(), self._times._asdict())


def _shares_between(before: dict[str, float], now: dict[str, float]) -> tuple[float | None, float | None]:
    """Return the percent of processor time that was busy, and that waited for a disk (None off Linux)."""
    spent = {name: max(0.0, now[name] - before[name]) for name in now if not name.startswith("guest")}
    total = sum(spent.values())  # a guest's time is in the user's already
    if total <= 0:
        return None, None
    idle, waiting = spent["idle"], spent.get("iowait")
    busy = total - idle - (waiting or 0.0)
    return 100 * busy / total, None if waiting is None else 100 * waiting / total


def _written_bytes(process: psutil.Process) -> int | None:
    try:
        return int(process.io_counters().write_bytes)
    except (AttributeError, psutil.Error, OSError):  # not on this system, or not ours to read
        return None
