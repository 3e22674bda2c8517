"""Where 16-bit arithmetic pays, and what stays in 32 bits whatever the autocast."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deblurkit.models.vrt.constants import once_per_shape
from deblurkit.models.vrt.target import device_kind


@once_per_shape
def cpu_multiplies_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the processor has bfloat16 products (AVX512-BF16, AMX, or those of ARM)."""
    try:
        return "bf16" in cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def where_it_pays(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return a context that turns autocast off on a CPU that would only imitate 16-bit products.

    There a product in bfloat16 takes five times as long as one in float32, and float32 is no less exact.
    """
    if device_kind(device) != "cpu" or cpu_multiplies_bf16():
        return contextlib.nullcontext()
    return in_float32(device)


def safe_over_time(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Return a context for a convolution over time of ``x``, (B, C, T, H, W): without autocast if it fails.

    For clips of two frames oneDNN 3.13 gave a wrong bfloat16 gradient of the weights, often NaN, on a CPU
    with AVX512; clips of 1 and of 3 to 6 frames were right (benchmarks/results/part7_prediction.md).
    """
    if x.device.type == "cpu" and x.shape[2] == 2:
        return in_float32(x.device)
    return contextlib.nullcontext()


def in_float32(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return a context without autocast: for flow, warps and offsets, where a rounding moves pixels."""
    return torch.autocast(device.type, enabled=False)
