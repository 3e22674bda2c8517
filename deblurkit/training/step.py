"""The step loop: the only one in the package. Commands consume it; none copies it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deblurkit.data.raw import Clip
from deblurkit.timing.clock import Clock, Mark
from deblurkit.timing.module_times import ModuleTimes
from deblurkit.timing.records import Span
from deblurkit.training.distributed import without_sum
from deblurkit.training.guard import NonFiniteGuard
from deblurkit.training.losses import Inputs, Loss, Objective
from deblurkit.training.precision import Precision

PHASES = ("data", "transfer", "forward", "loss", "backward", "optimizer")


@dataclass(frozen=True)
class StepRecord:
    """One optimiser step.

    Attributes:
        step: its number, from 1.
        loss: mean over the micro-steps, a scalar on the device; reading it waits for the device.
        learning_rate: that the step was taken with.
        samples: clips that this process has taken in the step.
        spans: the phases of all micro-steps, as marks of the clock that was passed in, and modules in them.
    """

    step: int
    loss: Tensor
    learning_rate: float
    samples: int
    spans: tuple[Span, ...]


class PhaseMarks:
    """Cuts time into phases that follow one another: each ends where the next begins."""

    def __init__(self, clock: Clock, names: Mapping[str, str]) -> None:
        self._clock, self._names = clock, names
        self._last: Mark = clock.mark()
        self.spans: list[Span] = []

    def done(self, phase: str) -> None:
        """End ``phase`` now; it began where the phase before ended."""
        now = self._clock.mark()
        self.spans.append(Span(self._names.get(phase, phase), self._last, now))
        self._last = now


def run_steps(
    model: nn.Module,
    batches: Iterator[Clip],
    *,
    objective: Objective,
    optimizer: Optimizer,
    learning_rate: Callable[[int], float],
    precision: Precision,
    clock: Clock,
    steps: range,
    accumulation: int = 1,
    max_grad_norm: float = 0.0,
    guard: NonFiniteGuard | None = None,
    module_at: Callable[[int], nn.Module] | None = None,
    module_times: ModuleTimes | None = None,
    phase_names: Mapping[str, str] | None = None,
) -> Iterator[StepRecord]:
    """Train ``model`` on ``batches`` and yield a record after each optimiser step.

    Args:
        model: called as model(blurry, spikes) with spikes None where it takes none (``num_voxel_bins`` 0).
        batches: gives at least ``len(steps) * accumulation`` batches.
        objective: gives the loss of each step.
        optimizer: over the model's parameters.
        learning_rate: rate of a step, counted from 1.
        precision: autocast and gradient scaling; its device is where the step runs.
        clock: marks the phases; never read in here.
        steps: numbers of the steps to take.
        accumulation: micro-steps, one batch each, whose gradients are averaged into a step.
        max_grad_norm: total norm that gradients are clipped to; 0 for none.
        guard: has steps skipped whose gradients are not finite.
        module_at: what a step calls, where that is not ``model`` itself (`freezing.FrozenFlow`).
        module_times: notes the times of modules, on the same clock; they join the step's spans.
        phase_names: what spans of a phase are called, where that is not its own name.
    """
    model.train()
    for step in steps:
        rate = learning_rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_factor", 1.0)
        called = model if module_at is None else module_at(step)
        phases = PhaseMarks(clock, phase_names or {})
        if module_times is not None:
            module_times.begin()
        loss = objective.at(step)
        total, samples = torch.zeros((), device=precision.device), 0
        for micro_step in range(accumulation):
            batch = next(batches)
            phases.done("data")
            is_last = micro_step == accumulation - 1
            with contextlib.nullcontext() if is_last else without_sum(called):
                total += _micro_step(
                    called, batch, loss, precision, phases, share=1 / accumulation, spikes=takes_spikes(model)
                )
            samples += batch.blurry.shape[0]
        precision.step(optimizer, model, max_grad_norm=max_grad_norm, guard=guard, step=step)
        phases.done("optimizer")
        if module_times is not None:
            phases.spans += module_times.take()
        yield StepRecord(step, total, rate, samples, tuple(phases.spans))


def _micro_step(
    model: nn.Module,
    batch: Clip,
    loss: Loss,
    precision: Precision,
    phases: PhaseMarks,
    *,
    share: float,
    spikes: bool,
) -> Tensor:
    """Add the gradients of one batch, weighted by ``share``, and return its part of the step's loss."""
    inputs = to_device(batch, precision.device, spikes=spikes)
    phases.done("transfer")
    with precision.autocast():
        restored = model(inputs.blurry, inputs.voxels)
    phases.done("forward")
    part = loss(restored.float(), inputs) * share
    phases.done("loss")
    precision.backward(part)
    phases.done("backward")
    return part.detach()


def takes_spikes(model: nn.Module) -> bool:
    """Return whether ``model`` was built with a spike branch."""
    return int(getattr(model, "num_voxel_bins", 0)) > 0


def to_device(batch: Clip, device: torch.device, *, spikes: bool) -> Inputs:
    """Return blurry and sharp as float32 in [0, 1] and the voxels (None unless ``spikes``), on ``device``."""
    blurry = batch.blurry.to(device, non_blocking=True).float().div_(255)
    sharp = batch.sharp.to(device, non_blocking=True).float().div_(255)
    return Inputs(blurry, batch.spikes.to(device, non_blocking=True) if spikes else None, sharp)
