"""The states of an optimiser that cannot step on fake tensors, made by its rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

SMALLEST = 4096  # elements: bitsandbytes keeps smaller tensors in 32 bits
BLOCK = 256  # elements that share a scale
_TABLE = 256  # float32 values that 8 bits stand for, one table for each of the two moments


class EightBitAdam(Optimizer):
    """What bitsandbytes' AdamW8bit holds, without its arithmetic.

    Two moments of every parameter that has had a gradient: uint8 with a float32 scale for every 256 elements
    (Dettmers et al., arXiv:2110.02861, sec. 2), or float32 where the parameter is small.
    """

    _step_supports_amp_scaling = True  # as a fused one: float16's scaler then reads no value back

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float) -> None:
        super().__init__(list(groups), {"lr": lr})
        self._tables: list[Tensor] = []

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make the states that are missing."""
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None and weights not in self.state:
                    self.state[weights] = self._states_of(weights)

    def _states_of(self, weights: Tensor) -> dict[str, Any]:
        if weights.numel() < SMALLEST:
            return {name: torch.zeros_like(weights, dtype=torch.float32) for name in ("state1", "state2")}
        if not self._tables:
            self._tables = [torch.empty(_TABLE, device=weights.device) for _ in range(2)]
        state: dict[str, Any] = dict(zip(("qmap1", "qmap2"), self._tables, strict=True))
        for number in "12":
            state[f"state{number}"] = torch.zeros_like(weights, dtype=torch.uint8)
            state[f"absmax{number}"] = torch.zeros(-(-weights.numel() // BLOCK), device=weights.device)
        return state
