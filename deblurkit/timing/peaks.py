"""What devices can compute at most, as their makers say: the denominator of the model FLOP utilisation.

Dense products without sparsity, and for half precision those that accumulate in float32, as PyTorch's do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Peaks:
    """A device's peaks in 10^12 operations per second by type (``fp32``, ``tf32``, ``fp16``, ``bf16``)."""

    name: str
    pattern: str
    tera: dict[str, float]
    source: str


_AMPERE = "NVIDIA Ampere GA102 GPU Architecture whitepaper, v2.1"
_ADA = "NVIDIA Ada GPU Architecture whitepaper, v2.1"
_HOPPER = "NVIDIA H100 Tensor Core GPU data sheet; figures with sparsity halved"

# The first pattern that is found in a device's name counts: variants stand before the plain one.
TABLE: tuple[Peaks, ...] = (
    Peaks(
        "H200 NVL",
        r"H200 NVL",
        {"fp32": 60.0, "tf32": 417.5, "fp16": 835.5, "bf16": 835.5},
        "NVIDIA H200 Tensor Core GPU data sheet; figures with sparsity halved",
    ),
    Peaks(
        "H200 SXM",
        r"H200",
        {"fp32": 67.0, "tf32": 494.5, "fp16": 989.5, "bf16": 989.5},
        "NVIDIA H200 Tensor Core GPU data sheet; figures with sparsity halved",
    ),
    Peaks(
        "H100 NVL",
        r"H100 NVL",
        {"fp32": 60.0, "tf32": 417.5, "fp16": 835.5, "bf16": 835.5},
        _HOPPER,
    ),
    Peaks("H100 PCIe", r"H100 PCIe", {"fp32": 51.0, "tf32": 378.0, "fp16": 756.5, "bf16": 756.5}, _HOPPER),
    Peaks("H100 SXM", r"H100.*HBM3", {"fp32": 67.0, "tf32": 494.5, "fp16": 989.5, "bf16": 989.5}, _HOPPER),
    Peaks(
        "A100",
        r"A100",
        {"fp32": 19.5, "tf32": 156.0, "fp16": 312.0, "bf16": 312.0},
        "NVIDIA A100 Tensor Core GPU data sheet",
    ),
    Peaks(
        "A40", r"\bA40\b", {"fp32": 37.4, "tf32": 74.8, "fp16": 149.7, "bf16": 149.7}, "NVIDIA A40 data sheet"
    ),
    Peaks("RTX A6000", r"RTX A6000", {"fp32": 38.7, "tf32": 77.4, "fp16": 154.8, "bf16": 154.8}, _AMPERE),
    Peaks("RTX 3090", r"RTX 3090(?! Ti)", {"fp32": 35.6, "tf32": 35.6, "fp16": 71.0, "bf16": 71.0}, _AMPERE),
    Peaks(
        "RTX 4090", r"RTX 4090(?! D| Lap)", {"fp32": 82.6, "tf32": 82.6, "fp16": 165.2, "bf16": 165.2}, _ADA
    ),
    Peaks(
        "RTX 6000 Ada",
        r"RTX 6000 Ada",
        {"fp32": 91.1, "tf32": 182.1, "fp16": 364.2, "bf16": 364.2},
        _ADA,
    ),
    Peaks(
        "L40S",
        r"\bL40S\b",
        {"fp32": 91.6, "tf32": 183.0, "fp16": 362.05, "bf16": 362.05},
        "NVIDIA L40S data sheet",
    ),
    Peaks(
        "L4",
        r"\bL4\b",
        {"fp32": 30.3, "tf32": 60.0, "fp16": 121.0, "bf16": 121.0},
        "NVIDIA L4 data sheet; figures with sparsity halved",
    ),
    Peaks("V100 SXM2", r"V100-SXM2", {"fp32": 15.7, "fp16": 125.0}, "NVIDIA V100 data sheet"),
    Peaks("T4", r"\bT4\b", {"fp32": 8.1, "fp16": 65.0}, "NVIDIA T4 data sheet"),
)


@dataclass(frozen=True)
class Peak:
    """What a device can do in one type: operations per second, and where that is written."""

    device: str
    dtype: str
    flops_per_second: float
    source: str


def peak_of(device_name: str, dtype: str) -> Peak | None:
    """Return the peak of a device, by the name that its driver gives it; None where it is not known.

    A part of a device (MIG) has no peak here: how much of it the part is, the name does not say.
    """
    if "MIG" in device_name:
        return None
    for peaks in TABLE:
        if re.search(peaks.pattern, device_name):
            tera = peaks.tera.get(dtype)
            return None if tera is None else Peak(peaks.name, dtype, tera * 1e12, peaks.source)
    return None
