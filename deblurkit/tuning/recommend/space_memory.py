"""What every candidate of a space holds, predicted; as few steps on fake tensors as that takes.

Steps that are alike are predicted once. Where a candidate does not fit, neither does one that
holds as much and more: of that only a bound is told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from deblurkit.config.schema import Config
from deblurkit.data.manifest import Storage
from deblurkit.memory.tensors import PARAMETERS
from deblurkit.tuning.host_memory import predict_host
from deblurkit.tuning.recommend.children import Guard, children_for, in_children
from deblurkit.tuning.recommend.records import Budget, Candidate
from deblurkit.tuning.recommend.space import order_of_need, recomputed
from deblurkit.tuning.recommend.step_classes import (
    ACCUMULATES,
    BATCH,
    OPTIMIZER,
    RECOMPUTATION,
    KeptResults,
    class_key,
    step_from,
)
from deblurkit.tuning.recommend.step_jobs import StepJob, predict_job
from deblurkit.tuning.step_memory import DeviceKind, StepMemory
from deblurkit.tuning.validation_kept import with_validation

PREDICTED = "predicted"
_OF_STEP = (OPTIMIZER, BATCH, ACCUMULATES, *RECOMPUTATION)  # what step classes of like networks differ in
_OF_TRAINING = (*_OF_STEP, "DATA.CROP_SIZE", "DATA.TRAIN_CROP_SIZE", "DATA.TRAIN_CLIP_LEN")
_SURELY = 1.03  # times what is there: what a step needs at least before one that needs more is passed over


@dataclass(frozen=True)
class CandidateMemory:
    """What a candidate holds.

    Attributes:
        peak_bytes: most of its device, overheads with it; None where nothing could be predicted.
        tensor_bytes: most bytes of tensors in a step; None where that was not predicted.
        host_bytes: most that all of its processes hold of the machine; None where nothing could be predicted.
        from_: ``predicted``; or why that was not needed, and then the bytes are those that it needs at least;
            or why it could not be done.
    """

    peak_bytes: int | None
    tensor_bytes: int | None
    host_bytes: int | None
    from_: str = PREDICTED

    @property
    def is_bound(self) -> bool:
        """Whether the candidate may need more than these bytes."""
        return self.peak_bytes is not None and self.from_ != PREDICTED


def predict_space(
    candidates: Sequence[Candidate],
    *,
    device_kind: DeviceKind,
    frame_shape: tuple[int, int] | None = None,
    num_frames: int | None = None,
    storage: Storage = "png",
    budget: Budget,
    store: Path | None,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    guard: Guard = contextlib.nullcontext,
    predict: Callable[[StepJob], list[StepMemory]] = predict_job,
) -> dict[str, CandidateMemory]:
    """Return what each candidate holds, by its key.

    Args:
        candidates: of one space.
        device_kind: of the device that the run is for.
        frame_shape: rows and columns of the held-out frames; None leaves the validation out.
        num_frames: blurry frames of the training split; None: the cache fills its budget.
        storage: of the dataset.
        budget: whose bytes tell what does not fit; other candidates are all predicted.
        store: file that steps are kept in from one search to the next; None: none.
        workers: child processes; None: as many as `children_for` says, 0: this process does all.
        on_progress: told how many steps are known or passed over, of how many.
        guard: as of `in_children`.
        predict: gives the memory of each configuration of a job.
    """
    if not candidates:
        return {}
    host = _Host(device_kind, frame_shape, num_frames, storage)
    kept = KeptResults(store, about=["memory", device_kind, frame_shape])
    plan = _Plan(_classes_of(candidates), host, budget, kept, on_progress)
    in_children(
        predict,
        next_job=plan.next_job,
        take=plan.take,
        workers=children_for(plan.missing, candidates[0].config) if workers is None else workers,
        guard=guard,
    )
    return {candidate.key: plan.memory_of(candidate) for candidate in candidates}


@dataclass(frozen=True)
class _Host:
    """What of the machine's memory a run depends on, beside its step."""

    device_kind: DeviceKind
    frame_shape: tuple[int, int] | None
    num_frames: int | None
    storage: Storage

    def bytes_with(self, candidate: Candidate, step: StepMemory) -> int:
        """Return what a run of ``candidate`` holds of it, if its steps held what ``step`` does."""
        return predict_host(
            candidate.config,
            world_size=candidate.devices,
            device_kind=self.device_kind,
            frame_shape=self.frame_shape,
            num_frames=self.num_frames,
            step=step,
            storage=self.storage,
        ).needed_bytes


class _StepClass:
    """Candidates whose steps are alike but for the optimiser's states.

    Attributes:
        steps: what they hold, by the optimiser's type; empty while that is not known.
        failed: why it will not be known; empty otherwise.
        bound: the class that does not fit, and that this one needs more than.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self.config = candidates[0].config
        self.configs: dict[str, Config] = {each.config.train.optim.type: each.config for each in candidates}
        self.batch = candidates[0].batch_size
        self.accumulates = candidates[0].accumulation > 1
        attention, mlp = recomputed(self.config)
        self.flags = (*attention, *mlp)
        self.rest = class_key(self.config, but=_OF_STEP)
        self.validation = class_key(self.config, but=_OF_TRAINING)  # alike where this is, but for the batch
        self.steps: dict[str, StepMemory] = {}
        self.failed = ""
        self.bound: _StepClass | None = None

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing left to be found out."""
        return bool(self.steps or self.failed or self.bound)

    def needs_no_more_than(self, other: _StepClass) -> bool:
        """Return whether clips are as many or fewer, and as much or more is computed again."""
        is_like = self.rest == other.rest and self.configs.keys() >= other.configs.keys()
        recomputes = all(mine or not its for mine, its in zip(self.flags, other.flags, strict=True))
        return is_like and self.batch <= other.batch and recomputes

    def step_for(self, candidate: Candidate, other: _StepClass) -> StepMemory:
        """Return what a candidate of ``other``, which needs no less, holds at least."""
        step = self.steps[candidate.config.train.optim.type]
        if self.accumulates and not other.accumulates:  # whose gradients are not there from the beginning
            gradients = sum(row.bytes or 0 for row in step.rows if row.name == PARAMETERS)
            return replace(step, phases={name: size - gradients for name, size in step.phases.items()})
        return step

    def take_validation(self, known: _StepClass) -> None:
        """Add to the steps what a validation holds, as it is known of another class."""
        for kind, after in self.configs.items():
            before, now = known.steps[kind], known.configs[kind]
            self.steps[kind] = with_validation(self.steps[kind], before, now=now, after=after)

    def why(self, other: _StepClass) -> str:
        """Return why a candidate of ``other`` does not fit, in a clause."""
        if self.batch < other.batch:
            return f"does not fit, as micro-batch {self.batch} does not already"
        words = self.candidates[0].choices.get("recompute", "more")
        return f"does not fit, as it does not even with {words} recomputed"


def _classes_of(candidates: Sequence[Candidate]) -> list[_StepClass]:
    """Return the classes: that of the first candidate, then those that need least first."""
    members: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        members.setdefault(class_key(candidate.config, but=[OPTIMIZER]), []).append(candidate)
    found = [_StepClass(group) for group in members.values()]
    return [*found[:1], *sorted(found[1:], key=lambda each: order_of_need(each.config))]


class _Plan:
    """Which steps are known, and which one is to be predicted next."""

    def __init__(
        self,
        classes: Sequence[_StepClass],
        host: _Host,
        budget: Budget,
        kept: KeptResults,
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._classes, self._host, self._budget, self._kept = classes, host, budget, kept
        self._on_progress = on_progress
        self._class_of = {each.key: group for group in classes for each in group.candidates}
        self._running: dict[StepJob, tuple[_StepClass, _StepClass | None]] = {}
        for group in classes:
            group.steps = self._kept_of(group)
        self._waiting = [group for group in classes if not group.is_settled]
        self._tell()

    @property
    def missing(self) -> int:
        """How many steps nobody has begun to predict."""
        return len(self._waiting)

    def next_job(self) -> StepJob | None:
        """Return the step that is to be predicted next, None where there is none."""
        while self._waiting:
            group = self._waiting.pop(0)
            group.bound = self._too_large_below(group)
            if group.bound is None:
                known = self._with_like_validation(group)
                frame_shape = None if known else self._host.frame_shape
                job = StepJob(tuple(group.configs.values()), self._host.device_kind, frame_shape)
                self._running[job] = group, known
                return job
            self._tell()
        return None

    def take(self, job: StepJob, outcome: list[StepMemory] | Exception) -> None:
        """Note what a prediction has come to."""
        group, known = self._running.pop(job)
        if isinstance(outcome, Exception):
            group.failed = str(outcome)
        else:
            group.steps = dict(zip(group.configs, outcome, strict=True))
            if known is not None:
                group.take_validation(known)
            for kind, config in group.configs.items():
                self._kept.add(config, asdict(group.steps[kind]))
        self._tell()

    def memory_of(self, candidate: Candidate) -> CandidateMemory:
        """Return what a candidate holds."""
        group = self._class_of[candidate.key]
        if group.failed:
            return CandidateMemory(None, None, None, group.failed)
        if group.bound is not None:
            step, why = group.bound.step_for(candidate, group), group.bound.why(group)
            return CandidateMemory(step.total_bytes, None, self._host.bytes_with(candidate, step), why)
        step = group.steps[candidate.config.train.optim.type]
        return CandidateMemory(step.total_bytes, step.step_peak_bytes, self._host.bytes_with(candidate, step))

    def _kept_of(self, group: _StepClass) -> dict[str, StepMemory]:
        """Return the steps of all types as they were kept; nothing where one is missing."""
        found = {kind: step_from(self._kept.find(config)) for kind, config in group.configs.items()}
        steps = {kind: step for kind, step in found.items() if step is not None}
        return steps if steps.keys() == found.keys() else {}

    def _with_like_validation(self, group: _StepClass) -> _StepClass | None:
        """Return a class whose validation is known, and is that of ``group`` but for the batch beside it."""
        if self._host.frame_shape is None:
            return None
        known = (each for each in self._classes if each.steps and each.validation == group.validation)
        return next((each for each in known if each.configs.keys() >= group.configs.keys()), None)

    def _too_large_below(self, group: _StepClass) -> _StepClass | None:
        """Return a class that needs no more than ``group``, and does not fit in the place of any of it."""
        for known in self._classes:
            if known.steps and known.needs_no_more_than(group):
                needed = [(each, known.step_for(each, group)) for each in group.candidates]
                if all(self._is_too_much(each, step) for each, step in needed):
                    return known
        return None

    def _is_too_much(self, candidate: Candidate, step: StepMemory) -> bool:
        device, host = self._budget.device_bytes, self._budget.host_bytes
        if device is not None and step.total_bytes > _SURELY * device:
            return True
        return host is not None and self._host.bytes_with(candidate, step) > _SURELY * host

    def _tell(self) -> None:
        done = sum(group.is_settled for group in self._classes)
        self._on_progress(done, len(self._classes))
