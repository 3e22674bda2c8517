"""What a run minimises: its losses, and the teacher that it learns from."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from deblurkit.config.schema import Config
from deblurkit.training.distillation import distillation_terms
from deblurkit.training.losses import WeightedSum, build_objective
from deblurkit.training.precision import Precision


def objective_of(
    config: Config, *, model: nn.Module, precision: Precision, warn: Callable[[str], None]
) -> WeightedSum:
    """Return what LOSS and TRAIN.DISTILL describe, with its networks on the device of the run.

    Args:
        config: of the run.
        model: what is trained, not wrapped.
        precision: of the run.
        warn: told of damaged checkpoints of the teacher that were passed over.

    Raises:
        DeblurkitError: where a network of a loss, or the teacher, cannot be read or does not fit.
    """
    teacher = distillation_terms(
        config.train.distill,
        data=config.data,
        student=model,
        delta=config.loss.charbonnier.delta,
        precision=precision,
        warn=warn,
    )
    return build_objective(config.loss, device=precision.device, more=teacher)
