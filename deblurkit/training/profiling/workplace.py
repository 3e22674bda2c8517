"""All that a training step needs, set up for taking a few of them: on random clips or on the run's own."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deblurkit.config.schema import Config
from deblurkit.data.raw import Clip
from deblurkit.models.registry import build_model
from deblurkit.timing.clock import Clock
from deblurkit.timing.module_times import ModuleTimes
from deblurkit.training.allocator import keep_freed_memory
from deblurkit.training.freezing import FrozenFlow
from deblurkit.training.losses import WeightedSum
from deblurkit.training.objective import objective_of
from deblurkit.training.optim import build_optimizer
from deblurkit.training.parts import assemble, pick_device
from deblurkit.training.precision import Precision
from deblurkit.training.step import StepRecord, run_steps, takes_spikes

Tell = Callable[[str], None]


@dataclass
class Workplace:
    """The parts of a step, and how many steps have been taken.

    Attributes:
        first_batch: what the first micro-step takes.
        is_synthetic: whether every micro-step takes the same random clips.
    """

    config: Config
    device: torch.device
    model: nn.Module
    optimizer: Optimizer
    precision: Precision
    objective: WeightedSum
    first_batch: Clip
    batches: Iterator[Clip]
    is_synthetic: bool
    done_steps: int = 0

    def __post_init__(self) -> None:
        self._called = FrozenFlow(self.model, steps=self.config.model.freeze_flow_steps)

    @property
    def accumulation(self) -> int:
        """Micro-steps of a step."""
        return self.config.train.gradient_accumulation_steps

    @property
    def spikes_shape(self) -> tuple[int, ...] | None:
        """Shape of a batch's voxels; None where the network takes none."""
        return tuple(self.first_batch.spikes.shape) if takes_spikes(self.model) else None

    def module_at(self, step: int) -> nn.Module:
        """Return what a step calls, its flow with gradients or without."""
        return self._called.module_at(step)

    def take_steps(
        self,
        count: int,
        clock: Clock,
        *,
        module_times: ModuleTimes | None = None,
        accumulation: int | None = None,
    ) -> Iterator[StepRecord]:
        """Take ``count`` steps at the configuration's learning rate, of all micro-steps unless told."""
        first = self.done_steps + 1
        self.done_steps += count
        train = self.config.train
        return run_steps(
            self.model,
            self.batches,
            objective=self.objective,
            optimizer=self.optimizer,
            learning_rate=lambda step: train.optim.lr,
            precision=self.precision,
            clock=clock,
            steps=range(first, first + count),
            accumulation=self.accumulation if accumulation is None else accumulation,
            max_grad_norm=train.max_grad_norm,
            module_at=self.module_at,
            module_times=module_times,
        )

    def kept_tensors(self) -> list[Tensor]:
        """Return what is there between steps: weights, buffers, the optimiser's state and the clips."""
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        networks = self.objective.kept_tensors()
        kept = [*self.model.parameters(), *self.model.buffers(), *self.first_batch, *state, *networks]
        return [tensor for tensor in kept if isinstance(tensor, Tensor)]


@contextlib.contextmanager
def workplace(
    config: Config, *, steps: int, use_data: bool, message: Tell, warn: Tell
) -> Iterator[Workplace]:
    """Yield what ``steps`` steps of ``config`` need: its network and optimiser, on random clips or its data.

    Raises:
        DeblurkitError: where a part cannot be made as the configuration says.
    """
    if not use_data:
        yield _on_random_clips(config, warn=warn)
        return
    parts = assemble(config, message=message, warn=warn)
    with contextlib.closing(parts):
        parts = dataclasses.replace(parts, total_steps=steps)
        batches = parts.batches(done_steps=0)
        first = next(batches)
        yield Workplace(
            config=config,
            device=parts.device,
            model=parts.model,
            optimizer=parts.optimizer,
            precision=parts.precision,
            objective=objective_of(config, model=parts.model, precision=parts.precision, warn=warn),
            first_batch=first,
            batches=itertools.chain([first], batches),
            is_synthetic=False,
        )


def _on_random_clips(config: Config, *, warn: Tell) -> Workplace:
    device = pick_device(config.train.device)
    if device.type == "cpu":
        keep_freed_memory()
    clip = random_clips(config, device)
    torch.manual_seed(config.seed)
    model = build_model(config.model, num_voxel_bins=config.data.num_voxel_bins).to(device)
    precision = Precision.from_section(config.train, device)
    return Workplace(
        config=config,
        device=device,
        model=model,
        optimizer=build_optimizer(config.train.optim, model, device=device, warn=warn),
        precision=precision,
        objective=objective_of(config, model=model, precision=precision, warn=warn),
        first_batch=clip,
        batches=itertools.repeat(clip),
        is_synthetic=True,
    )


def random_clips(config: Config, device: torch.device) -> Clip:
    """Return a batch of noise of the configured size on ``device``; spikes have half of the frames' size."""
    data, batch = config.data, config.train.batch_size
    (_, side), (_, length) = data.crops_by_epoch[0], data.clips_by_epoch[0]
    generator = torch.Generator().manual_seed(config.seed)
    frames = (batch, length, 3, side, side)
    voxels = (batch, length, data.num_voxel_bins, side // 2, side // 2)
    return Clip(
        blurry=torch.randint(256, frames, dtype=torch.uint8, generator=generator).to(device),
        spikes=torch.rand(voxels, generator=generator).to(device),
        sharp=torch.randint(256, frames, dtype=torch.uint8, generator=generator).to(device),
    )
