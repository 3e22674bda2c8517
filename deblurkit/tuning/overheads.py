"""What a step takes of a GPU beside its tensors, each part with where its size is from."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from deblurkit.data.prefetch import AHEAD
from deblurkit.data.raw import Clip
from deblurkit.units import MIB

BATCHES_AHEAD = "batches ahead"

_CONTEXT = 512 * MIB  # 0.3 to 1 GiB
_CUBLAS = ":4096:2:16:8"  # KiB and count of each kind of buffer: PyTorch's default before Hopper


@dataclass(frozen=True)
class MemoryRow:
    """A part of the memory that a run takes.

    Attributes:
        name: of what takes it.
        bytes: how much; None where it cannot be known before the run.
        source: how that was found.
    """

    name: str
    bytes: int | None
    source: str


def overheads_of(device_kind: str, *, batch: Clip, world_size: int) -> tuple[MemoryRow, ...]:
    """Return what comes on top of the tensors of a step; nothing on a CPU.

    Args:
        device_kind: ``cpu`` or ``cuda``.
        batch: of a micro-step.
        world_size: ranks of the run.
    """
    if device_kind != "cuda":
        return ()
    rows = [
        MemoryRow("CUDA context", _CONTEXT, "assumed; 0.3 to 1 GiB by GPU and driver"),
        _cublas(),
        MemoryRow("cuDNN workspaces", None, "chosen by cuDNN for each convolution, on the GPU alone"),
        MemoryRow(BATCHES_AHEAD, AHEAD * _bytes(batch), f"{AHEAD} batches wait on the GPU for their step"),
        MemoryRow(
            "reserved beyond allocated", None, "fragments of PyTorch's allocator: only a run on a GPU tells"
        ),
    ]
    if world_size > 1:
        rows += [
            MemoryRow("DDP buckets", 0, "gradients are views into the buckets"),
            MemoryRow("NCCL buffers", None, "by the links between the GPUs"),
        ]
    return tuple(rows)


def _cublas() -> MemoryRow:
    setting = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    source = "PyTorch's default; 32 MiB from Hopper on" if setting is None else "CUBLAS_WORKSPACE_CONFIG"
    sizes = re.findall(r":(\d+):(\d+)", setting or _CUBLAS)
    return MemoryRow("cuBLAS workspace", 1024 * sum(int(size) * int(count) for size, count in sizes), source)


def _bytes(batch: Clip) -> int:
    return sum(part.numel() * part.element_size() for part in batch)
