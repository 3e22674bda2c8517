"""What the driver knows of a GPU: how busy it is, who holds its memory; nothing where it is silent."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Holder:
    """A process that holds memory of a GPU.

    Attributes:
        pid: as the driver counts; within a container that may be no process of ours.
        user: who runs it, None where that cannot be seen.
        bytes: what it holds, None where the driver does not say.
    """

    pid: int
    user: str | None
    bytes: int | None

    @property
    def is_this_process(self) -> bool:
        """Whether it is the process that asks."""
        return self.pid == os.getpid()


class Gpu:
    """One GPU, by way of NVML; an answer may be None, as driver and rights differ between servers."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Take the library and its handle of the GPU."""
        self._nvml = nvml
        self._handle = handle

    def busy_percent(self) -> float | None:
        """Return the share of the last sampling period (1/6 to 1 s) in which a kernel ran."""
        rates = self._asked(self._nvml.nvmlDeviceGetUtilizationRates)
        return None if rates is None else float(rates.gpu)

    def used_bytes(self) -> int | None:
        """Return what all processes together hold."""
        memory = self._asked(self._nvml.nvmlDeviceGetMemoryInfo)
        return None if memory is None else int(memory.used)

    def holders(self) -> list[Holder]:
        """Return the processes that hold memory, largest first."""
        found = self._asked(self._nvml.nvmlDeviceGetComputeRunningProcesses) or []
        holders = [Holder(each.pid, user_of(each.pid), each.usedGpuMemory) for each in found]
        return sorted(holders, key=lambda holder: holder.bytes or 0, reverse=True)

    def _asked(self, question: Callable[[Any], Any]) -> Any:
        with contextlib.suppress(self._nvml.NVMLError):
            return question(self._handle)
        return None


def find_gpu(device: torch.device) -> Gpu | None:
    """Return the GPU that ``device`` is, None without NVML or for another kind of device.

    CUDA_VISIBLE_DEVICES renumbers what CUDA sees and not what NVML does, so they agree on the UUID.
    """
    if device.type != "cuda":
        return None
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
    except (nvml.NVMLError, AttributeError, RuntimeError):
        return None


def user_of(pid: int) -> str | None:
    """Return who runs a process, None where there is none, or none that we may see."""
    try:
        import psutil
    except ImportError:
        return None
    try:
        return str(psutil.Process(pid).username())
    except (psutil.Error, KeyError):  # KeyError: a user whom this machine has no name for
        return None
