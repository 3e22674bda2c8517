"""Whether it can be known which GPUs a run gets, and how much of them: CUDA has an order of its own."""

from __future__ import annotations

from collections.abc import Sequence

from deblurkit.memory.gpu import GpuState

ORDER = "CUDA_DEVICE_ORDER"
_AS_DRIVER = "PCI_BUS_ID"


def gpu_doubt(
    gpus: Sequence[GpuState], *, taken: Sequence[GpuState], setting: str | None, order: str | None
) -> str:
    """Return why the GPUs that a run gets cannot be judged; empty where they can.

    By itself CUDA numbers the fastest model first, and the driver by the bus.

    Args:
        gpus: all that the driver tells of.
        taken: those among them that the run's ranks get, as the driver numbers them.
        setting: CUDA_VISIBLE_DEVICES; None where it is not set.
        order: CUDA_DEVICE_ORDER, likewise.
    """
    if any(gpu.is_divided for gpu in taken):
        return "it is divided (MIG), and what the part has that the run gets is not told"
    is_some = 0 < len(taken) < len(gpus)
    if is_some and order != _AS_DRIVER and _are_numbers(setting) and len({gpu.name for gpu in gpus}) > 1:
        return f"CUDA may number these models in another order than the driver: set {ORDER}={_AS_DRIVER}"
    return ""


def _are_numbers(setting: str | None) -> bool:
    return setting is None or any(word.strip().isdigit() for word in setting.split(","))
