"""The parts of a network that train at rates of their own, told by the names of their parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn

Part = Literal["flow", "spikes", "rest"]

FLOW = ("spynet", "pa_deform")
SPIKES = ("spike_encoder", "spike_attention", "fusion")


def part_of(name: str) -> Part:
    """Return the part of a parameter: optical flow and alignment, the spike branch, or the rest."""
    modules = name.split(".")
    if any(module in FLOW for module in modules):
        return "flow"
    return "spikes" if any(module in SPIKES for module in modules) else "rest"


def parameters_of(model: nn.Module, part: Part) -> Iterator[nn.Parameter]:
    """Yield the parameters of a part."""
    for name, parameter in model.named_parameters():
        if part_of(name) == part:
            yield parameter
