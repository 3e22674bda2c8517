"""Losses on clips in [0, 1]; always worked out in float32."""

from __future__ import annotations

import torch
from torch import Tensor


def charbonnier(restored: Tensor, sharp: Tensor, *, delta: float) -> Tensor:
    """Return the mean of sqrt(d^2 + delta^2) over every value of two tensors of one shape.

    Charbonnier et al., ICIP 1994. Half-precision inputs are widened first: delta^2 would vanish in them.
    """
    difference = restored.float() - sharp.float()
    return torch.sqrt(difference * difference + delta * delta).mean()
