"""What a training step will hold on its device, told before anything is allocated.

The step is the run's own (`training.step.run_steps`), taken with the networks, the optimiser and the losses
of the configuration on fake tensors: these have shapes and no memory. Fake tensors of a GPU do not go
backward on a machine without one, so shapes are those of a CPU; chunks and autocast are those of the device
asked for.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer

from deblurkit.config.schema import Config
from deblurkit.data.batch_bytes import largest_clip
from deblurkit.data.raw import Clip
from deblurkit.memory.tensors import GRADIENTS, INPUTS, TEMPORARIES, MemoryClock, Peak, StorageTracker
from deblurkit.models.registry import build_model
from deblurkit.models.vrt.target import as_if_on, shapes_only
from deblurkit.timing.module_rows import module_rows
from deblurkit.training.distillation import distillation_terms
from deblurkit.training.ema import Ema
from deblurkit.training.held_out import overlap_of, tile_of
from deblurkit.training.losses import Term, build_objective
from deblurkit.training.optim import build_optimizer, parameter_groups
from deblurkit.training.perceptual import untrained_lpips, untrained_vgg
from deblurkit.training.precision import Precision
from deblurkit.training.profiling.workplace import Workplace, workplace
from deblurkit.training.step import takes_spikes, to_device
from deblurkit.training.tiling import Tile, plan_tiles
from deblurkit.tuning.optimizer_states import EightBitAdam
from deblurkit.tuning.overheads import MemoryRow, overheads_of

DeviceKind = Literal["cpu", "cuda"]

STATES, EMA, LOSS = "optimiser states", "running mean (EMA)", "loss networks"
LOSS_ACTIVATIONS, VALIDATION = "activations: loss", "validation"
FROM_CPU_SHAPES = "fake tensors, from CPU shapes"
MEASURED = "measured, tensors on the CPU"

_CPU = torch.device("cpu")
_MICRO_PHASES = ("data", "transfer", "forward", "loss", "backward")
_MADE_IN = {"transfer": INPUTS, "loss": LOSS_ACTIVATIONS}  # owner of what the step loop itself makes
_MODULE_DEPTH = 2  # levels of the rows of activations: VRT/Stage1


@dataclass(frozen=True)
class StepMemory:
    """The memory of an optimiser step and of a validation, tensors and what comes on top of them.

    Attributes:
        device_kind: that it is of.
        source: how the bytes of tensors were found.
        clip_shape: (B, T, 3, H, W) of a micro-step, the largest of the run's schedules.
        rows: what is held when the step holds most, by owner, most first.
        after_forward: what is held when the last forward pass ends, likewise.
        phases: most bytes held in each phase; ``validation`` where the size of its frames is known.
        overheads: what comes on top of tensors; empty on a CPU.
    """

    device_kind: DeviceKind
    source: str
    clip_shape: tuple[int, ...]
    rows: tuple[MemoryRow, ...]
    after_forward: tuple[MemoryRow, ...]
    phases: Mapping[str, int]
    overheads: tuple[MemoryRow, ...]

    @property
    def step_peak_bytes(self) -> int:
        """Most bytes of tensors in a step."""
        return sum(row.bytes or 0 for row in self.rows)

    @property
    def peak_bytes(self) -> int:
        """Most bytes of tensors, of a step or of a validation."""
        return max(self.phases.values())

    @property
    def after_forward_bytes(self) -> int:
        """Bytes of tensors when the last forward pass ends."""
        return sum(row.bytes or 0 for row in self.after_forward)

    @property
    def total_bytes(self) -> int:
        """Most bytes of tensors, and what is known of the overheads."""
        return self.peak_bytes + sum(row.bytes or 0 for row in self.overheads)


def predict_step(
    config: Config,
    *,
    device_kind: DeviceKind = "cpu",
    frame_shape: tuple[int, int] | None = None,
    world_size: int = 1,
) -> StepMemory:
    """Return what a step of ``config`` will hold, with the largest clips of its schedules.

    Nothing is allocated; but a teacher (TRAIN.DISTILL) is read for a moment, as only its checkpoint tells
    its sizes.

    Args:
        config: the whole configuration.
        device_kind: of the device that the run is for.
        frame_shape: rows and columns of the held-out frames; None leaves the validation out.
        world_size: ranks that the run will have.

    Raises:
        CheckpointError: if the teacher cannot be read.
    """
    with fake_place(config, device_kind=device_kind) as (place, mode), shapes_only():
        visit = _Visit(place, frame_shape, StorageTracker(fake=mode))
        with visit.tracker:
            make_states(place)
            visit.take(micro_steps=1, is_first=place.accumulation == 1)
        return visit.result(device_kind, FROM_CPU_SHAPES, world_size=world_size)


@contextlib.contextmanager
def fake_place(config: Config, *, device_kind: DeviceKind) -> Iterator[tuple[Workplace, FakeTensorMode]]:
    """Yield the parts of a step of ``config`` on fake tensors, with the largest clips, and their mode.

    Args:
        config: the whole configuration.
        device_kind: of the device whose chunks and autocast are taken; the tensors are those of a CPU.

    Raises:
        CheckpointError: if a teacher cannot be read.
    """
    with torch.device("meta"):
        model = build_model(config.model, num_voxel_bins=config.data.num_voxel_bins)
    teacher = _teacher(config, model)
    with as_if_on(device_kind), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        model.to_empty(device=_CPU)
        yield _fake_place(config, model, teacher), mode


def measure_step(
    config: Config, *, device_kind: DeviceKind = "cpu", frame_shape: tuple[int, int] | None = None
) -> StepMemory:
    """Return what a step of ``config`` holds when it is taken on this machine's CPU: `predict_step`'s twin.

    Args:
        config: the whole configuration; TRAIN.DEVICE is passed over.
        device_kind: of the device whose chunks and autocast are to be taken.
        frame_shape: as in `predict_step`.
    """
    train = config.train.model_copy(update={"device": "cpu"})
    config = config.model_copy(update={"train": train})
    with (
        as_if_on(device_kind),
        workplace(config, steps=2, use_data=False, message=_unsaid, warn=_unsaid) as place,
    ):
        clips = largest_clips(config)
        place = replace(place, first_batch=clips, batches=itertools.repeat(clips))
        visit = _Visit(place, frame_shape, StorageTracker())
        with visit.tracker:
            make_states(place)
            visit.take(micro_steps=min(2, place.accumulation), is_first=True)
        return visit.result(device_kind, MEASURED, world_size=1)


def largest_clips(config: Config) -> Clip:
    """Return a batch of the longest clips and largest crops of training; spikes have half of the size."""
    length, side = largest_clip(config.data)
    leading = config.train.batch_size, length
    return _noise(leading, (side, side), bins=config.data.num_voxel_bins)


def _noise(leading: tuple[int, int], frame_shape: tuple[int, int], *, bins: int) -> Clip:
    frames = (*leading, 3, *frame_shape)
    spikes = (*leading, bins, frame_shape[0] // 2, frame_shape[1] // 2)
    blurry, sharp = (torch.randint(256, frames, dtype=torch.uint8) for _ in range(2))
    return Clip(blurry, torch.rand(spikes), sharp)


class _Visit:
    """Takes the step and the validation at a place while a tracker follows their storages."""

    def __init__(
        self, place: Workplace, frame_shape: tuple[int, int] | None, tracker: StorageTracker
    ) -> None:
        self.place, self.tracker = place, tracker
        self._frame_shape = frame_shape
        decay = place.config.train.ema_decay
        self._ema = Ema(place.model, decay=decay) if decay else None
        self._after_forward: dict[str, int] = {}
        self._peaks: dict[str, Peak] = {}

    def take(self, *, micro_steps: int, is_first: bool) -> None:
        """Take a step as it is once the run is under way, then restore a tile as a validation does.

        Args:
            micro_steps: that are taken of it.
            is_first: whether they are its first, and there are no gradients yet.
        """
        place, tracker = self.place, self.tracker
        place.done_steps = _step_with_everything(place.config) - 1
        if not is_first:
            place.module_at(place.done_steps + 1)  # lets go of the gradients of what thaws, so before them
            _make_gradients(place)
        self._name_what_stays()
        networks = place.objective.networks().items()
        rows = {module: f"activations: {row}" for module, row in _rows(place.model).items()}
        rows |= {network: f"activations: loss {name}" for name, network in networks}
        with tracker.following(place.model, rows):
            clock = _StepClock(tracker, micro_steps)
            (record,) = place.take_steps(1, clock, accumulation=micro_steps)
        self._after_forward = clock.after_forward
        for span in record.spans:
            if span.name != "data":  # no tensors are made in it
                self._note(span.name, span.end)
        if self._ema is not None:
            self._ema.update(place.model, record.step)
            self._note("running mean", tracker.take_peak())
        if self._frame_shape is not None:
            self._note(VALIDATION, self._validation(self._frame_shape))

    def result(self, device_kind: DeviceKind, source: str, *, world_size: int) -> StepMemory:
        """Return what was seen."""
        place = self.place
        steps = [peak for name, peak in self._peaks.items() if name != VALIDATION]
        return StepMemory(
            device_kind=device_kind,
            source=source,
            clip_shape=tuple(place.first_batch.blurry.shape),
            rows=_as_rows(max(steps, key=lambda peak: peak.peak_bytes).by_owner, source),
            after_forward=_as_rows(self._after_forward, source),
            phases={name: peak.peak_bytes for name, peak in self._peaks.items()},
            overheads=overheads_of(device_kind, batch=place.first_batch, world_size=world_size),
        )

    def _note(self, phase: str, peak: Peak) -> None:
        known = self._peaks.get(phase)
        if known is None or known.peak_bytes < peak.peak_bytes:
            self._peaks[phase] = peak

    def _name_what_stays(self) -> None:
        place, assign = self.place, self.tracker.assign
        states = [value for state in place.optimizer.state.values() for value in state.values()]
        assign(STATES, [value for value in states if isinstance(value, Tensor)])
        gradients = [weights.grad for weights in place.model.parameters()]
        assign(GRADIENTS, [gradient for gradient in gradients if gradient is not None])
        assign(LOSS, place.objective.kept_tensors())
        assign(INPUTS, place.first_batch)
        if self._ema is not None:
            assign(EMA, self._ema.state_dict().values())

    @torch.no_grad()
    def _validation(self, frame_shape: tuple[int, int]) -> Peak:
        """Return the most that restoring the largest tile of a validation batch holds."""
        place, tracker, config = self.place, self.tracker, self.place.config
        tracker.take_peak()
        averaged = self._ema.swapped(place.model) if self._ema is not None else contextlib.nullcontext()
        place.model.eval()
        with tracker.owner(VALIDATION), averaged:
            clip = _noise(
                (config.train.val_batch_size, config.data.clip_len),
                frame_shape,
                bins=config.data.num_voxel_bins,
            )
            blurry, voxels, _ = to_device(clip, _CPU, spikes=takes_spikes(place.model))
            tile = _largest_tile(config, frame_shape)
            blurry = blurry[..., : tile.height, : tile.width]
            if voxels is not None:
                voxels = voxels[..., : tile.height // 2, : tile.width // 2]
            with place.precision.autocast():
                place.model(blurry, voxels).float().cpu()
        return tracker.take_peak()


class _StepClock(MemoryClock):
    """Marks what is held, and has what the step loop makes belong to the phase that it is made in.

    Attributes:
        after_forward: bytes by owner at the end of the last forward pass.
    """

    def __init__(self, tracker: StorageTracker, micro_steps: int) -> None:
        super().__init__(_CPU, tracker=tracker)
        self._tracker = tracker
        self._ending = iter(["", *(_MICRO_PHASES * micro_steps), "optimizer", ""])
        self._phase = next(self._ending)
        self.after_forward: dict[str, int] = {}

    def mark(self) -> Peak:
        """Return the most memory held in the phase that ends here."""
        if self._phase == "forward":
            self.after_forward = self._tracker.by_owner
        self._phase = next(self._ending)
        self._tracker.outside = _MADE_IN.get(self._phase, TEMPORARIES)
        return super().mark()


def _fake_place(config: Config, model: nn.Module, teacher: list[Term]) -> Workplace:
    """Return the parts of a step on fake tensors; to be called where these are made."""
    for term in teacher:
        assert isinstance(term.loss, nn.Module)
        term.loss.to_empty(device=_CPU)
    objective = build_objective(
        config.loss,
        device=_CPU,
        more=teacher,
        make_vgg=lambda section, device: untrained_vgg(section.layers, device),
        make_lpips=lambda section, device: untrained_lpips(section.net, device),
    )
    clips = largest_clips(config)
    return Workplace(
        config=config,
        device=_CPU,
        model=model,
        optimizer=_fake_optimizer(config, model),
        precision=Precision.from_section(config.train, _CPU),
        objective=objective,
        first_batch=clips,
        batches=itertools.repeat(clips),
        is_synthetic=True,
    )


def _fake_optimizer(config: Config, model: nn.Module) -> Optimizer:
    section = config.train.optim
    if section.type == "adamw8bit":
        return EightBitAdam(parameter_groups(section, model), lr=section.lr)
    return build_optimizer(section, model, device=_CPU, warn=_unsaid)


def make_states(place: Workplace) -> None:
    """Have the optimiser make its states, of all weights, as after the first step of a run."""
    _make_gradients(place)
    place.optimizer.step()
    place.optimizer.zero_grad(set_to_none=True)


def _make_gradients(place: Workplace) -> None:
    for weights in place.model.parameters():
        weights.grad = torch.zeros_like(weights)


def _teacher(config: Config, model: nn.Module) -> list[Term]:
    return distillation_terms(
        config.train.distill,
        data=config.data,
        student=model,
        delta=config.loss.charbonnier.delta,
        precision=Precision.from_section(config.train, _CPU),
        warn=_unsaid,
    )


def _step_with_everything(config: Config) -> int:
    """Return a step that has all terms of the loss, and gradients of the flow too."""
    loss = config.loss
    every = math.lcm(
        loss.charbonnier.every_n_steps,
        loss.vgg_perceptual.every_n_steps,
        loss.lpips.every_n_steps,
        config.train.distill.every_n_steps,
    )
    return every * (config.model.freeze_flow_steps // every + 1)


def _rows(model: nn.Module) -> dict[nn.Module, str]:
    return module_rows(model, depth=_MODULE_DEPTH)


def _largest_tile(config: Config, frame_shape: tuple[int, int]) -> Tile:
    tile = tile_of(config.test)
    if tile is None:
        return Tile(config.data.clip_len, *frame_shape)
    plan = plan_tiles(config.data.clip_len, frame_shape, tile=tile, overlap=overlap_of(config.test))
    return plan.largest


def _as_rows(held: Mapping[str, int], source: str) -> tuple[MemoryRow, ...]:
    most_first = sorted(held.items(), key=lambda item: -item[1])
    return tuple(MemoryRow(name, count, source) for name, count in most_first)


def _unsaid(text: str) -> None:
    """Do nothing: a prediction repeats no warnings of the run that it is of."""
