"""What a search measures on, in words that stay the same from call to call, and what a GPU has free now."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import torch

from deblurkit.data.workers import available_cpus
from deblurkit.errors import DeblurkitError
from deblurkit.memory.gpu import GpuState, NvmlGpus
from deblurkit.training.manifest import THIS_MACHINE, Machine, cpu_model, driver_version, memory_bytes
from deblurkit.tuning.run_memory import VISIBLE, visible_gpus
from deblurkit.tuning.step_memory import DeviceKind
from deblurkit.units import format_bytes


def look_at_gpus() -> tuple[GpuState, ...]:
    """Return the GPUs of this machine as the driver tells of them; none without a driver."""
    return NvmlGpus().look().gpus


def describe_hardware(
    device_kind: DeviceKind,
    *,
    machine: Machine = THIS_MACHINE,
    environment: Mapping[str, str] = os.environ,
    look: Callable[[], Sequence[GpuState]] = look_at_gpus,
) -> str:
    """Return what steps are taken on: processors and memory, and before them the GPU where it is one.

    Args:
        device_kind: that steps are taken on.
        machine: what is read.
        environment: whose CUDA_VISIBLE_DEVICES counts.
        look: gives the GPUs.
    """
    cpus = available_cpus(cgroup_root=machine.cgroup_root, membership=machine.membership)
    name = " ".join((cpu_model(machine.cpuinfo) or "CPU").split())
    host = f"{cpus} x {name}, {format_bytes(memory_bytes(machine))}"
    return host if device_kind == "cpu" else f"{_gpu(machine, environment, look())}; {host}"


def device_memory(
    gpus: Sequence[GpuState] | None = None, *, environment: Mapping[str, str] = os.environ
) -> int | None:
    """Return the bytes that are free now on the GPU that a run would take; None where nothing tells.

    Args:
        gpus: all that the driver tells of; None asks it.
        environment: whose CUDA_VISIBLE_DEVICES counts.

    Raises:
        DeblurkitError: if no GPU may be used.
    """
    gpus = look_at_gpus() if gpus is None else gpus
    visible = visible_gpus(gpus, environment.get(VISIBLE))
    if visible and not _is_divided(visible[0]):
        return visible[0].free_bytes
    if torch.cuda.is_available():  # a part of a GPU (MIG), of which the driver tells the whole, or no driver
        return torch.cuda.mem_get_info(0)[0]
    if gpus and not visible:
        raise DeblurkitError(
            f"{VISIBLE}={environment.get(VISIBLE)}: expected the number or UUID of one of"
            f" {len(gpus)} GPUs, see `nvidia-smi`; name one, or set --set TRAIN.DEVICE=cpu"
        )
    return visible[0].free_bytes if visible else None


def _is_divided(gpu: GpuState) -> bool:
    return any("MIG" in line for line in gpu.unseen)


def _gpu(machine: Machine, environment: Mapping[str, str], gpus: Sequence[GpuState]) -> str:
    visible = visible_gpus(gpus, environment.get(VISIBLE))
    gpu = visible[0] if visible else None
    words = [(gpu.name if gpu is not None else None) or _name_of_cuda()]
    if gpu is not None and gpu.total_bytes is not None:
        words.append(format_bytes(gpu.total_bytes))
    driver = driver_version(machine.driver)
    return ", ".join([*words, f"driver {driver}"] if driver else words)


def _name_of_cuda() -> str:
    """Return what CUDA calls its first GPU, where the driver's library does not tell."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "a GPU"
