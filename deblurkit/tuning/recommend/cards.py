"""Graphics cards by name, for a prediction without one, and what a machine may do before it was measured."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from deblurkit.errors import UsageError
from deblurkit.timing.peaks import peak_of
from deblurkit.units import GIB

_TYPES = {"float32": "fp32", "bf16": "bf16", "fp16": "fp16"}  # TF32 is off in a run, but in convolutions


@dataclass(frozen=True)
class Card:
    """A graphics card.

    Attributes:
        name: that ``--gpu`` takes.
        driver_name: as its driver tells it, which `timing.peaks` knows.
        memory_bytes: that PyTorch finds on it; less than its maker says, for the card keeps some.
        bytes_per_second: of its memory, as its maker says.
    """

    name: str
    driver_name: str
    memory_bytes: int
    bytes_per_second: float


def _card(name: str, driver_name: str, gib: float, giga_per_second: float) -> Card:
    return Card(name, driver_name, round(gib * GIB), giga_per_second * 1e9)


CARDS: tuple[Card, ...] = (
    _card("3090", "NVIDIA GeForce RTX 3090", 23.6, 936),
    _card("4090", "NVIDIA GeForce RTX 4090", 23.6, 1008),
    _card("a6000", "NVIDIA RTX A6000", 47.4, 768),
    _card("6000-ada", "NVIDIA RTX 6000 Ada Generation", 47.4, 960),
    _card("a40", "NVIDIA A40", 44.3, 696),
    _card("a100-40gb", "NVIDIA A100-SXM4-40GB", 39.4, 1555),
    _card("a100-80gb", "NVIDIA A100-SXM4-80GB", 79.1, 2039),
    _card("h100", "NVIDIA H100 80GB HBM3", 79.1, 3350),
    _card("h100-pcie", "NVIDIA H100 PCIe", 79.1, 2000),
    _card("h100-nvl", "NVIDIA H100 NVL", 93.0, 3900),
    _card("h200", "NVIDIA H200", 139.7, 4800),
    _card("l4", "NVIDIA L4", 22.0, 300),
    _card("l40s", "NVIDIA L40S", 44.3, 864),
    _card("v100", "Tesla V100-SXM2-32GB", 31.7, 900),
    _card("v100-16gb", "Tesla V100-SXM2-16GB", 15.7, 900),
    _card("t4", "Tesla T4", 14.5, 320),
)


@dataclass(frozen=True)
class Prior:
    """What a device reaches in a training step, as far as that is known before it has taken one.

    Attributes:
        flops_per_second: by the type of products (``float32``, ``bf16``, ``fp16``).
        bytes_per_second: of its memory.
        call_seconds: that calling an operator takes.
        link_bytes_per_second: between devices that sum their gradients.
        spread: standard deviation of the natural logarithm of each of these.
        axis_spread: of what a choice changes beyond the work that was counted, by axis, where that is much.
        source: where the figures are from, in a clause.
    """

    flops_per_second: Mapping[str, float]
    bytes_per_second: float
    call_seconds: float
    link_bytes_per_second: float
    spread: float
    source: str
    axis_spread: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


_REACHED_FLOPS, _REACHED_BYTES = 0.4, 0.6  # of a card's peaks, in steps of windows of a few hundred tokens
_CARD_CALL = 1e-5  # [s] from Python to a kernel
_CARD_LINK = 1e10  # [bytes/s] PCIe 4 x16, about half of what its maker says
_CARD_AXES = MappingProxyType({"precision": 0.3, "compile": 0.3})

_ANY_GPU_FLOPS, _ANY_GPU_BYTES = 2e13, 1e12

_CORE_FLOPS = MappingProxyType({"float32": 2e10, "bf16": 1e10, "fp16": 2e9})  # 16 bits: often emulated
_CPU_BYTES, _CPU_CALL, _CPU_LINK = 5e9, 2e-5, 1e9
_CPU_AXES = MappingProxyType({"precision": 1.0, "compile": 0.5})


def find_card(name: str) -> Card:
    """Return the card called ``name``, whatever its case; blanks and underscores are as good as hyphens.

    Raises:
        UsageError: for a name that is not known, with the nearest ones.
    """
    asked = "-".join(name.lower().replace("_", " ").replace("-", " ").split())
    by_name = {card.name: card for card in CARDS} | {_as_name(card.driver_name): card for card in CARDS}
    for prefix in ("", "rtx", "nvidia", "geforce"):
        short = asked.removeprefix(prefix).removeprefix("-")
        if short in by_name:
            return by_name[short]
    known = [card.name for card in CARDS]
    near = difflib.get_close_matches(asked, known, n=3, cutoff=0.5)
    near = near or [each for each in known if each.split("-")[0] in asked]
    hint = f"; did you mean {' or '.join(near)}? " if near else "; "
    raise UsageError(f"--gpu {name}: no such card is known{hint}there are: {', '.join(known)}")


def _as_name(driver_name: str) -> str:
    return driver_name.lower().replace(" ", "-")


def prior_for_card(card: Card) -> Prior:
    """Return what a card may reach in a step."""
    return _of_gpu(card.driver_name, card.bytes_per_second, spread=0.5)


def prior_for_gpu(driver_name: str) -> Prior:
    """Return what the GPU of this machine may reach, by the name that its driver gives it."""
    for card in CARDS:
        if card.driver_name == driver_name:
            return prior_for_card(card)
    return _of_gpu(driver_name, _ANY_GPU_BYTES, spread=0.8)


def prior_for_cpu(threads: int) -> Prior:
    """Return what ``threads`` cores of some processor may reach: a guess that a single trial mends."""
    return Prior(
        flops_per_second={name: threads * flops for name, flops in _CORE_FLOPS.items()},
        bytes_per_second=_CPU_BYTES * min(threads, 8),
        call_seconds=_CPU_CALL,
        link_bytes_per_second=_CPU_LINK,
        spread=1.0,
        axis_spread=_CPU_AXES,
        source="a guess at a processor core",
    )


def _of_gpu(driver_name: str, bytes_per_second: float, *, spread: float) -> Prior:
    peaks = {word: peak_of(driver_name, dtype) for word, dtype in _TYPES.items()}
    known = {word: peak.flops_per_second for word, peak in peaks.items() if peak is not None}
    usual = min(known.values(), default=_ANY_GPU_FLOPS)
    return Prior(
        flops_per_second={word: _REACHED_FLOPS * known.get(word, usual) for word in _TYPES},
        bytes_per_second=_REACHED_BYTES * bytes_per_second,
        call_seconds=_CARD_CALL,
        link_bytes_per_second=_CARD_LINK,
        spread=spread,
        axis_spread=_CARD_AXES,
        source=(
            f"{100 * _REACHED_FLOPS:.0f} % of the operations and {100 * _REACHED_BYTES:.0f} % of the bytes a"
            f" second that the maker of {driver_name} says"
            if known
            else f"a guess at a GPU, for {driver_name} is in no table"
        ),
    )
