"""Knowledge distillation: a network learns from what a trained one makes of the same clips."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deblurkit.errors import CheckpointError
from deblurkit.models.registry import smallest_clip
from deblurkit.training.evaluate import load_network
from deblurkit.training.losses import Inputs, Term, charbonnier
from deblurkit.training.precision import Precision
from deblurkit.training.step import takes_spikes
from deblurkit.units import plural

if TYPE_CHECKING:
    from deblurkit.config.sections.data import DataSection
    from deblurkit.config.sections.train import DistillSection

Autocast = Callable[[], contextlib.AbstractContextManager[Any]]


class Distillation(nn.Module):
    """The Charbonnier loss between a restored clip and the teacher's.

    Hinton et al., 2015 (arXiv:1503.02531), for regression: the teacher's output is one more target.

    Args:
        teacher: called as the run's network is; from here on it learns nothing and runs as in validation.
        delta: of the Charbonnier loss.
        autocast: the context that the teacher runs in.
    """

    def __init__(self, teacher: nn.Module, *, delta: float, autocast: Autocast) -> None:
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)
        self._delta, self._autocast = delta, autocast

    def forward(self, restored: Tensor, inputs: Inputs) -> Tensor:
        """Return the loss of a restored clip, (B, T, 3, H, W), as a scalar."""
        voxels = inputs.voxels if takes_spikes(self.teacher) else None
        with torch.no_grad(), self._autocast():
            target = self.teacher(inputs.blurry, voxels)
        return charbonnier(restored, target, delta=self._delta)


def distillation_terms(
    section: DistillSection,
    *,
    data: DataSection,
    student: nn.Module,
    delta: float,
    precision: Precision,
    warn: Callable[[str], None],
) -> list[Term]:
    """Return the term that TRAIN.DISTILL adds to the loss; none without a teacher or weight.

    Random states are left as they were, so that a run with a teacher draws what it would draw without.

    Args:
        section: names the teacher.
        data: the clips that both see.
        student: what the run trains; the teacher has to be content with what it is given.
        delta: of the Charbonnier loss.
        precision: its autocast and device are the teacher's too.
        warn: told of damaged checkpoints that were passed over.

    Raises:
        CheckpointError: if the teacher cannot be read, or needs other spikes or larger clips than the run's.
    """
    if section.teacher is None or section.weight == 0:
        return []
    try:
        with torch.random.fork_rng(devices=[]):  # a new network draws its weights on the CPU
            teacher, config, _ = load_network(section.teacher, warn=warn)
    except CheckpointError as error:
        raise CheckpointError(f"TRAIN.DISTILL.TEACHER: {error}") from error
    _check_spikes(teacher, student, path=section.teacher)
    _check_size(data, smallest_clip(config.model), path=section.teacher)
    loss = Distillation(teacher.to(precision.device), delta=delta, autocast=precision.autocast)
    return [Term("distillation", section.weight, loss, section.every_n_steps)]


def _check_spikes(teacher: nn.Module, student: nn.Module, *, path: Path) -> None:
    """Raise a CheckpointError if the voxels that are loaded for the student are not those of the teacher."""
    wanted, given = getattr(teacher, "num_voxel_bins", 0), getattr(student, "num_voxel_bins", 0)
    if wanted in (0, given):
        return
    has = f"the run gives {given} (DATA.NUM_VOXEL_BINS)" if given else "the run gives none (MODEL.USE_SPIKE)"
    raise CheckpointError(
        f"TRAIN.DISTILL.TEACHER: {path}: this teacher takes {wanted} voxel bins and {has};"
        f" {'set' if given else 'train with spikes and'} DATA.NUM_VOXEL_BINS={wanted},"
        " or take a teacher without spikes"
    )


def _check_size(data: DataSection, least: tuple[int, int, int], *, path: Path) -> None:
    """Raise a CheckpointError if the run's clips are smaller than the teacher can restore."""
    side = max(least[1:])
    if data.train_clip >= least[0] and data.train_crop >= side:
        return
    raise CheckpointError(
        f"TRAIN.DISTILL.TEACHER: {path}: this teacher needs clips of {plural(least[0], 'frame')} and"
        f" {side} px at least, got {plural(data.train_clip, 'frame')} (DATA.CLIP_LEN, DATA.TRAIN_CLIP_LEN)"
        f" and {data.train_crop} px (DATA.CROP_SIZE, DATA.TRAIN_CROP_SIZE)"
    )
