"""Optimisers and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from deblurkit.models.parts import part_of

if TYPE_CHECKING:
    from deblurkit.config.sections.train import OptimSection, SchedSection


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step; it has no state, so a resumed run needs none.

    A linear warm-up from 0, then a constant rate or half a cosine down to ``min_lr`` at the last step
    (Loshchilov and Hutter, arXiv:1608.03983, eq. 5, one period).
    """

    kind: str
    peak_lr: float
    min_lr: float
    warmup_steps: int
    total_steps: int

    def __call__(self, step: int) -> float:
        """Return the learning rate of ``step``, counted from 1."""
        if step <= self.warmup_steps:
            return self.peak_lr * step / self.warmup_steps
        if self.kind == "constant":
            return self.peak_lr
        length = max(1, self.total_steps - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / length)
        lowest = min(self.min_lr, self.peak_lr)
        return lowest + (self.peak_lr - lowest) * (1 + math.cos(math.pi * progress)) / 2


def build_schedule(
    sched: SchedSection, optim: OptimSection, *, total_steps: int, effective_batch: int
) -> Schedule:
    """Return the schedule that TRAIN.SCHED and TRAIN.OPTIM ask for.

    With LR_SCALING ``linear`` the rate grows with the effective batch (Goyal et al., arXiv:1706.02677,
    sec. 2.1).
    """
    scale = effective_batch / optim.base_batch_size if optim.lr_scaling == "linear" else 1.0
    return Schedule(
        kind=sched.type,
        peak_lr=optim.lr * scale,
        min_lr=sched.min_lr,
        warmup_steps=min(sched.warmup_steps, total_steps),
        total_steps=total_steps,
    )


def build_optimizer(
    section: OptimSection, model: nn.Module, *, device: torch.device, warn: Callable[[str], None]
) -> Optimizer:
    """Return AdamW over ``model``, fused, without weight decay for norms and biases.

    Flow and alignment, and the spike branch, have groups of their own, whose ``lr_factor`` the step loop
    multiplies the learning rate by.

    ``adamw8bit`` keeps its states in 8 bits (bitsandbytes); where that package is missing, AdamW takes its
    place and ``warn`` is told.
    """
    groups = parameter_groups(section, model)
    if section.type == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError:
            warn("TRAIN.OPTIM.TYPE: bitsandbytes is not installed; using adamw instead of adamw8bit")
        else:
            optimizer: Optimizer = AdamW8bit(groups, lr=section.lr, betas=section.betas)
            return optimizer
    return torch.optim.AdamW(groups, lr=section.lr, betas=section.betas, fused=device.type in ("cpu", "cuda"))


def parameter_groups(section: OptimSection, model: nn.Module) -> list[dict[str, Any]]:
    """Return a group for each part and for matrices and vectors in it, as far as there are any."""
    factors = {"flow": section.flow_lr_factor, "spikes": section.spike_lr_factor, "rest": 1.0}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault((part_of(name), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": section.weight_decay if decays else 0.0,
            "lr_factor": factors[part],
        }
        for (part, decays), parameters in sorted(groups.items(), reverse=True, key=lambda item: item[0])
    ]
