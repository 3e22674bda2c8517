"""Automatic mixed precision: what TRAIN.AMP_* mean for a device."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from deblurkit.config.sections import TrainSection

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast and, for float16, the gradient scaler that goes with it.

    O0 is float32 throughout. O1 and O2 both mean autocast: the half-precision weights of Apex's O2 have no
    counterpart in PyTorch today.

    Attributes:
        dtype: the autocast type, or None in float32.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype | None) -> None:
        self.device = device
        self.dtype = dtype
        self._scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)

    @classmethod
    def from_section(cls, section: TrainSection, device: torch.device) -> Precision:
        """Return the precision that TRAIN.AMP_ENABLED, AMP_OPT_LEVEL and AMP_DTYPE ask for."""
        wanted = section.amp_enabled and section.amp_opt_level != "O0"
        return cls(device, _DTYPES[section.amp_dtype] if wanted else None)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context that a forward pass runs in."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass of ``loss``, scaled where float16 needs it."""
        self._scaler.scale(loss).backward()

    def step(self, optimizer: Optimizer, model: nn.Module, *, max_grad_norm: float) -> None:
        """Clip the gradients to a total norm (0: do not) and take the optimiser's step."""
        self._scaler.unscale_(optimizer)
        if max_grad_norm > 0:
            nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        self._scaler.step(optimizer)
        self._scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the scaler's state; empty in float32 and bfloat16."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the scaler's state; an empty one leaves it fresh."""
        if state:
            self._scaler.load_state_dict(state)
