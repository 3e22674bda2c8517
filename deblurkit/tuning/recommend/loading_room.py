"""A plan of loading held against the machine's memory: as many of its workers as there is room for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from deblurkit.config.changed import changed
from deblurkit.tuning.recommend.loading_plan import LoadingPlan
from deblurkit.tuning.recommend.records import Candidate, Settings
from deblurkit.tuning.recommend.space_memory import CandidateMemory
from deblurkit.units import format_bytes, plural

Predict: TypeAlias = Callable[[Sequence[Candidate]], Mapping[str, CandidateMemory]]

WORKERS, PREFETCH = "DATALOADER.TRAIN_WORKERS", "DATALOADER.TRAIN_PREFETCH_FACTOR"
_PARTS = 8  # of the planned workers, one less after the other


@dataclass(frozen=True)
class HeldPlan:
    """A plan, and what a run with it holds.

    Attributes:
        plan: of loading.
        host_bytes: that all processes of the run hold of the machine; None where that is not known.
    """

    plan: LoadingPlan
    host_bytes: int | None


def within_host(
    plan: LoadingPlan, candidate: Candidate, *, host_bytes: int | None, predict: Predict
) -> HeldPlan:
    """Return the plan with as many workers, then as many batches that wait, as the machine has room for.

    Where there is no room for a single worker, loading stays as the candidate has it.

    Args:
        plan: of the loading of ``candidate``.
        candidate: that fits with the loading that it has.
        host_bytes: that all processes of the run may hold; None: without bound.
        predict: gives what candidates hold, by their keys.
    """
    tried = list(_candidates(candidate, plan.settings))
    needs = predict([each for _, each in tried])
    bytes_of = [needs[each.key].host_bytes for _, each in tried]
    place = next((at for at, held in enumerate(bytes_of) if _fits(held, host_bytes)), len(tried) - 1)
    settings, held = tried[place][0], bytes_of[place]
    if place == 0 or host_bytes is None:
        return HeldPlan(plan, held)
    words = _words(plan.settings, settings, before=bytes_of[0], after=held, there=host_bytes)
    return HeldPlan(replace(plan, settings=settings, words=(*plan.words, words)), held)


def _candidates(candidate: Candidate, planned: Settings) -> Iterator[tuple[Settings, Candidate]]:
    """Yield settings of loading with the candidate that has them, what holds most of the machine first."""
    factor = planned.get(PREFETCH, candidate.config.dataloader.train_prefetch_factor)
    for settings in _fewer(planned, factor):
        config = changed(candidate.config, settings)
        if config is not None:
            yield settings, replace(candidate, settings={**candidate.settings, **settings}, config=config)
    yield {}, candidate


def _fewer(planned: Settings, factor: int) -> Iterator[dict[str, Any]]:
    """Yield the plan, then its parts with fewer workers, then one worker that keeps fewer batches."""
    parts = (planned[WORKERS] * part // _PARTS for part in range(_PARTS, 0, -1))
    for workers in dict.fromkeys(max(1, part) for part in parts):
        yield {**planned, WORKERS: workers}
    while factor > 1:
        factor //= 2
        yield {**planned, WORKERS: 1, PREFETCH: factor}


def _fits(held: int | None, there: int | None) -> bool:
    return there is None or (held is not None and held <= there)


def _words(
    planned: Settings, settings: Settings, *, before: int | None, after: int | None, there: int
) -> str:
    """Return what the plan would have held, and what is set instead."""
    workers = plural(planned[WORKERS], "worker")
    if before is None or after is None:
        return f"what {workers} would hold of the machine is not known: loading stays as it is"
    less = "loading as it is" if WORKERS not in settings else plural(settings[WORKERS], "worker")
    if PREFETCH in settings and settings[PREFETCH] != planned.get(PREFETCH):
        less += f", {settings[PREFETCH]} batches ahead,"
    return (
        f"with {workers} the run would hold {format_bytes(before)} of the machine, {format_bytes(there)} are"
        f" there; with {less} it holds {format_bytes(after)}"
    )
