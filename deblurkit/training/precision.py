"""Automatic mixed precision: what TRAIN.AMP_* mean for a device."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deblurkit.training.guard import GradientNorms, NonFiniteGuard

if TYPE_CHECKING:
    from deblurkit.config.sections.train import TrainSection

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_LEVELS = {
    "O1": "TRAIN.AMP_OPT_LEVEL O1",
    "O2": "TRAIN.AMP_OPT_LEVEL O2 means O1 today: PyTorch has no half-precision weights of Apex's kind",
}


class Precision:
    """Autocast and, for float16, the gradient scaler that goes with it.

    O0 is float32 throughout. O1 and O2 both mean autocast: the half-precision weights of Apex's O2 have no
    counterpart in PyTorch today.

    Attributes:
        dtype: the autocast type, or None in float32.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype | None, *, reason: str = "") -> None:
        """Take the type; ``reason`` says which keys have asked for it, for `as_line`."""
        self.device = device
        self.dtype = dtype
        self._reason = reason
        self._scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)

    @classmethod
    def from_section(cls, section: TrainSection, device: torch.device) -> Precision:
        """Return the precision that TRAIN.AMP_ENABLED, AMP_OPT_LEVEL and AMP_DTYPE ask for."""
        level = section.amp_opt_level
        if not section.amp_enabled:
            return cls(device, None, reason="TRAIN.AMP_ENABLED is off")
        if level == "O0":
            return cls(device, None, reason="TRAIN.AMP_OPT_LEVEL O0 is float32, whatever AMP_ENABLED says")
        return cls(device, _DTYPES[section.amp_dtype], reason=_LEVELS[level])

    def as_line(self) -> str:
        """Return what is computed in which type, and why, as a line of the log."""
        reason = f" ({self._reason})" if self._reason else ""
        if self.dtype is None:
            return f"precision: float32{reason}"
        name = str(self.dtype).removeprefix("torch.")
        scaling = "with" if self._scaler.is_enabled() else "without"
        return (
            f"precision: {name} autocast, {scaling} loss scaling; weights, gradients, the optimiser and the"
            f" loss in float32{reason}"
        )

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context that a forward pass runs in."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Run the backward pass of ``loss``, scaled where float16 needs it."""
        self._scaler.scale(loss).backward()

    def step(
        self,
        optimizer: Optimizer,
        model: nn.Module,
        *,
        max_grad_norm: float,
        guard: NonFiniteGuard | None = None,
        step: int = 0,
    ) -> None:
        """Clip the gradients to a total norm (0: do not) and take the optimiser's step.

        Args:
            optimizer: over the parameters of ``model``; their gradients are gone afterwards.
            model: whose gradients are clipped.
            max_grad_norm: total norm that they are clipped to.
            guard: is told of the gradients; with it a step of NaN or infinite ones changes nothing.
            step: its number, for what the guard says.

        Raises:
            DeblurkitError: where the guard gives up; nothing has been changed in this step.
        """
        self._scaler.unscale_(optimizer)
        if guard is not None:
            norms = GradientNorms.of(guard.named_parameters)
            guard.watch(step, norms)
            if max_grad_norm > 0:
                nn.utils.clip_grads_with_norm_(model.parameters(), max_grad_norm, norms.total)
            self._take(optimizer, ~norms.total.isfinite())
        else:
            if max_grad_norm > 0:
                nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
            self._take(optimizer, None)
        optimizer.zero_grad(set_to_none=True)

    def _take(self, optimizer: Optimizer, is_bad: Tensor | None) -> None:
        """Take the optimiser's step unless ``is_bad``, a flag on the device, is true (None: no question).

        A fused optimiser skips in its kernel, as it does for float16's scaler, so that the host need not wait
        for the flag. bitsandbytes cannot; it waits for the GPU after every parameter anyway.
        """
        if self._scaler.is_enabled():  # has looked for overflows itself, and skips on them
            self._scaler.step(optimizer)
            self._scaler.update()
        elif is_bad is None:
            optimizer.step()
        elif _can_skip(optimizer):
            optimizer.grad_scale, optimizer.found_inf = None, is_bad.float()  # type: ignore[attr-defined]
            try:
                optimizer.step()
            finally:
                del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
        elif not bool(is_bad):
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the scaler's state; empty in float32 and bfloat16."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the scaler's state; an empty one leaves it fresh."""
        if state:
            self._scaler.load_state_dict(state)


def _can_skip(optimizer: Optimizer) -> bool:
    """Return whether the optimiser leaves everything as it is where its ``found_inf`` is 1."""
    supports = bool(getattr(optimizer, "_step_supports_amp_scaling", False))
    return supports and all(group.get("fused") for group in optimizer.param_groups)
