"""Optical flow and alignment held still for the first steps of a run, as VRT was trained."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from deblurkit.models.parts import parameters_of


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network itself: a run of one process wraps it in nothing."""
    return network


class FrozenFlow:
    """The module that each step calls, its flow parts without gradients up to a step.

    ``DistributedDataParallel`` learns once, when it wraps a network, whose gradients it sums; so the network
    is wrapped anew at the step at which the flow thaws, on all ranks alike and without a restart.

    Args:
        network: what is trained.
        steps: the last step at which the flow keeps its weights; 0 for none.
        wrap: makes of the network what is called, for example its DDP.
    """

    def __init__(
        self, network: nn.Module, *, steps: int, wrap: Callable[[nn.Module], nn.Module] = unwrapped
    ) -> None:
        self._network, self._steps, self._wrap = network, steps, wrap
        self._frozen: bool | None = None
        self._module = network

    @property
    def module(self) -> nn.Module:
        """What the last step has called."""
        return self._module

    def module_at(self, step: int) -> nn.Module:
        """Return what ``step``, counted from 1, has to call."""
        frozen = step <= self._steps
        if frozen != self._frozen:
            for parameter in parameters_of(self._network, "flow"):
                parameter.requires_grad_(not frozen)
                parameter.grad = None
            self._frozen, self._module = frozen, self._wrap(self._network)
        return self._module
