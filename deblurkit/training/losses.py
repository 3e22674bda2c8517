"""Losses on clips in [0, 1]; always worked out in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from deblurkit.config.sections import LossSection


def charbonnier(restored: Tensor, sharp: Tensor, *, delta: float) -> Tensor:
    """Return the mean of sqrt(d^2 + delta^2) over every value of two tensors of one shape.

    Charbonnier et al., ICIP 1994. Half-precision inputs are widened first: delta^2 would vanish in them.
    """
    difference = restored.float() - sharp.float()
    return torch.sqrt(difference * difference + delta * delta).mean()


class Inputs(NamedTuple):
    """A batch on the device, as the network and a loss see it.

    Attributes:
        blurry: (B, T, 3, H, W) float32 in [0, 1].
        voxels: (B, T, K, h, w) float32 in [0, 1]; None where the network takes no spikes.
        sharp: as blurry.
    """

    blurry: Tensor
    voxels: Tensor | None
    sharp: Tensor


Loss = Callable[[Tensor, Inputs], Tensor]  # (restored as float32, what it was made from) -> scalar


class Objective(Protocol):
    """What a run minimises."""

    def at(self, step: int) -> Loss:
        """Return the loss of the micro-steps of ``step``, counted from 1."""
        ...


class EveryStep:
    """The same loss in every step."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss

    def at(self, step: int) -> Loss:
        """Return the loss."""
        return self._loss


def build_objective(section: LossSection) -> Objective:
    """Return what the LOSS section describes."""
    delta, weight = section.charbonnier.delta, section.charbonnier.weight
    return EveryStep(lambda restored, inputs: weight * charbonnier(restored, inputs.sharp, delta=delta))
