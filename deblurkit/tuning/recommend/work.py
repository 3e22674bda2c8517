"""What a micro-step of each candidate computes and moves, counted on fake tensors.

Operations and bytes are counted for one clip and grow with the clips of a micro-batch; the calls do not. What
is counted as moved beside the clips, the weights, is little beside them and grows here too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim import SGD

from deblurkit.config.changed import changed
from deblurkit.config.schema import Config
from deblurkit.training.parts import count_parameters
from deblurkit.training.profiling.counters import BYTES, CALLS, FLOPS, WorkClock
from deblurkit.training.profiling.workplace import random_clips
from deblurkit.training.step import StepRecord
from deblurkit.tuning.recommend.children import Guard, children_for, in_children
from deblurkit.tuning.recommend.records import Candidate, Work
from deblurkit.tuning.recommend.step_classes import ACCUMULATES, BATCH, KeptResults, class_key
from deblurkit.tuning.step_memory import DeviceKind, fake_place

_NOT_FELT = (ACCUMULATES, BATCH, "TRAIN.OPTIM", "TRAIN.VAL_BATCH_SIZE", "TRAIN.EMA_DECAY", "TEST")
_FORWARD, _BACKWARD = ("forward", "loss"), ("backward",)


@dataclass(frozen=True)
class WorkJob:
    """A micro-step of one clip that is to be counted: of a configuration, as on a kind of device."""

    config: Config
    device_kind: DeviceKind


def count_work(
    candidates: Sequence[Candidate],
    *,
    device_kind: DeviceKind,
    store: Path | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], None],
    guard: Guard = contextlib.nullcontext,
) -> dict[str, Work]:
    """Return the work of a micro-step of each candidate, by its key; without those that cannot be counted.

    A micro-step is counted for each network, size of clips, recomputation and precision, as a trial takes it:
    with the clips and the frozen parts of the beginning of a run. A compiled network is counted as it is
    before that.

    Args:
        candidates: of one space.
        device_kind: of the device that the run is for.
        store: file that counts are kept in from one search to the next; None: none.
        workers: child processes; None: as many as `children_for` says, 0: this process does all.
        on_progress: told how many micro-steps are counted, of how many.
        guard: as of `in_children`.
    """
    if not candidates:
        return {}
    classes = {each.key: class_key(each.config, but=_NOT_FELT) for each in candidates}
    jobs = {classes[each.key]: WorkJob(_one_clip(each.config), device_kind) for each in candidates}
    kept = KeptResults(store, about=["work", device_kind], but=_NOT_FELT)
    counted: dict[WorkJob, Work | Exception] = {}
    for job in jobs.values():
        known = _work_from(kept.find(job.config))
        if known is not None:
            counted[job] = known
    waiting = [job for job in jobs.values() if job not in counted]
    on_progress(len(counted), len(jobs))

    def take(job: WorkJob, outcome: Work | Exception) -> None:
        counted[job] = outcome
        if isinstance(outcome, Work):
            kept.add(job.config, asdict(outcome))
        on_progress(len(counted), len(jobs))

    in_children(
        count_job,
        next_job=lambda: waiting.pop(0) if waiting else None,
        take=take,
        workers=children_for(len(waiting), candidates[0].config) if workers is None else workers,
        guard=guard,
    )
    ones = {each.key: counted[jobs[classes[each.key]]] for each in candidates}
    clips = {each.key: each.batch_size for each in candidates}
    return {key: _of_clips(one, clips[key]) for key, one in ones.items() if isinstance(one, Work)}


def count_job(job: WorkJob) -> Work:
    """Return the work of a micro-step, with the clips of the configuration."""
    with fake_place(job.config, device_kind=job.device_kind) as (place, _), WorkClock() as clock:
        batches = iter([random_clips(job.config, torch.device("cpu"))])
        optimizer = SGD(place.model.parameters(), foreach=True)  # its part of the step is not counted
        place = replace(place, batches=batches, optimizer=optimizer)
        (record,) = place.take_steps(1, clock, accumulation=1)
        return _work_of(record, weights=count_parameters(place.model))


def _work_from(values: Any) -> Work | None:
    """Return work from what ``asdict`` and JSON have made of it; None where that is not whole."""
    try:
        return Work(**{field.name: values[field.name] + 0 for field in fields(Work)})
    except (KeyError, TypeError):
        return None


def _work_of(record: StepRecord, *, weights: int) -> Work:
    forward, backward = (_amounts(record, phases) for phases in (_FORWARD, _BACKWARD))
    return Work(
        forward_flops=forward[FLOPS],
        backward_flops=backward[FLOPS],
        forward_bytes=forward[BYTES],
        backward_bytes=backward[BYTES],
        forward_calls=forward[CALLS],
        backward_calls=backward[CALLS],
        weights=weights,
    )


def _amounts(record: StepRecord, phases: Sequence[str]) -> Mapping[int, float]:
    """Return by how much each number of a `WorkClock` grows in some phases of a step."""
    spans = [span for span in record.spans if span.name in phases]
    return {of: sum(span.end[of] - span.start[of] for span in spans) for of in (FLOPS, BYTES, CALLS)}


def _one_clip(config: Config) -> Config:
    settings = {BATCH: 1, "TRAIN.GRADIENT_ACCUMULATION_STEPS": 1, "TRAIN.MAX_GRAD_NORM": 0.0}
    found = changed(config, settings)
    assert found is not None, "a batch of one, whose gradients are left as they are, goes with everything"
    return found


def _of_clips(one: Work, clips: int) -> Work:
    return replace(
        one,
        forward_flops=clips * one.forward_flops,
        backward_flops=clips * one.backward_flops,
        forward_bytes=clips * one.forward_bytes,
        backward_bytes=clips * one.backward_bytes,
    )
