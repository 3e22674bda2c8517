"""Which changes of a configuration free most memory of a resource, and what they cost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from deblurkit.config.changed import as_assignments
from deblurkit.config.schema import Config
from deblurkit.errors import DeblurkitError
from deblurkit.tuning.change_options import Option, Settings, options_for, with_settings
from deblurkit.tuning.change_prices import Freed, Situation
from deblurkit.tuning.host_memory import HostMemory, predict_host
from deblurkit.tuning.shared_states import as_shared
from deblurkit.tuning.side_by_side import Asked, Predict, SideBySide
from deblurkit.tuning.step_memory import VALIDATION, StepMemory, predict_step
from deblurkit.tuning.validation_kept import keeps_validation, with_validation
from deblurkit.tuning.verdicts import TIGHT

Progress: TypeAlias = Callable[[int, int], None]
Tried: TypeAlias = tuple[Option, int]  # and the bytes that it frees

LEAST_SHARE = 0.01  # of what is needed: what frees less is not worth a word
_MORE_TRIES = 3  # steps that are predicted beyond the number of changes asked for
_MOST_SUMS = 3  # combinations that are predicted


@dataclass(frozen=True)
class Change:
    """Settings that free memory.

    Attributes:
        settings: ``KEY=VALUE`` each, as ``--set`` takes them.
        frees_bytes: of the resource: what is predicted now, less what is predicted with them.
        resource: that they free.
        costs: their price, a clause with its arithmetic.
        keeps_result: whether training goes the same way; false: another gradient or network.
        is_combined: whether it is several changes that fit together, where none does alone.
    """

    settings: tuple[str, ...]
    frees_bytes: int
    resource: Freed
    costs: str
    keeps_result: bool
    is_combined: bool = False


def changes_for(
    config: Config,
    *,
    step: StepMemory | None,
    host: HostMemory | None,
    resource: Freed,
    predict: Predict = predict_step,
    predict_host: Callable[..., HostMemory] = predict_host,
    on_progress: Progress | None = None,
    most: int = 3,
    frame_shape: tuple[int, int] | None = None,
    available_bytes: int | None = None,
) -> list[Change]:
    """Return the changes that free most, most first; each is predicted anew, and none frees under 1 %.

    Where what is available is known, too little, and enough for none of them, the settings that do together
    come last, those that keep the result before others.

    Args:
        config: as it is; only what makes another valid configuration is a change.
        step: what a step of it holds, on a rank that may share; None leaves out what would need less of one.
        host: what all processes hold; None where only ``device`` is asked for.
        resource: what is to be freed; ``ram`` has the tensors of a step in it where that is of a CPU.
        predict: as `predict_step`; called with the device and ranks of ``step`` and ``host``. A `SideBySide`
            is told beforehand what it may be asked.
        predict_host: as `host_memory.predict_host`, likewise.
        on_progress: told how many predictions are done, of how many at most.
        most: changes at most, without the combination.
        frame_shape: rows and columns of held-out frames, which `predict` is then called with.
        available_bytes: what the resource gives.
    """
    now = Situation(config, step, host, resource, frame_shape)
    search = _Search(now, predict, predict_host)
    tried = search.tried(options_for(now), most=most, on_progress=on_progress or _unsaid)
    changes = [_as_change(option, freed, resource) for option, freed in tried[:most]]
    if available_bytes is not None:
        changes += search.together(tried, available_bytes)
    return changes


def _as_change(option: Option, freed: int, resource: Freed) -> Change:
    return Change(as_assignments(option.settings), freed, resource, option.price(), option.keeps_result)


class _Search:
    """Predicts what options free."""

    def __init__(
        self,
        now: Situation,
        predict: Predict,
        predict_host: Callable[..., HostMemory],
    ) -> None:
        self._now, self._predict, self._predict_host = now, predict, predict_host
        self._host = self._new_host(now.config, now.step)
        self._needed = self._bytes(now.step, self._host)
        self._least = max(1, LEAST_SHARE * self._needed)

    def tried(self, options: Sequence[Option], *, most: int, on_progress: Progress) -> list[Tried]:
        """Return the options that are worth it, most freed first; what cannot be among the first is left.

        Args:
            options: what may free most first.
            most: how many are wanted.
            on_progress: told how many are done.
        """
        found: list[Tried] = []
        options = _affordable(options, most + _MORE_TRIES)
        self._begin(o.config for o in options if o.takes_step and o.may_free >= self._least)
        for done, option in enumerate(options, start=1):
            if option.may_free < self._least or _is_behind(option, found, most):
                on_progress(len(options), len(options))
                break
            freed = self._freed(option.config, takes_step=option.takes_step)
            if freed is not None and freed >= self._least:
                found.append((option, freed))
            on_progress(done, len(options))
        return sorted(found, key=lambda one: (-one[1], not one[0].keeps_result))

    def together(self, tried: Sequence[Tried], available: int) -> list[Change]:
        """Return the first of the options that fit together, where none does alone; or nothing.

        Args:
            tried: what each frees.
            available: bytes of the resource.
        """
        room = int(TIGHT * available)
        if any(self._needed - freed <= room for freed in (0, *(freed for _, freed in tried))):
            return []
        sums = [(chosen, settings) for chosen, settings, about in self._growing(tried) if about <= room]
        sums = sums[:_MOST_SUMS]
        self._begin(self._after(settings) for _, settings in sums)
        for chosen, settings in sums:
            change = self._sum(chosen, settings)
            if change is not None and self._needed - change.frees_bytes <= room:
                return [change]
        return []

    def _growing(self, tried: Sequence[Tried]) -> Iterator[tuple[list[Option], Settings, float]]:
        """Yield two options that go together, then three, and so on, and about what is needed with them."""
        chosen: list[Option] = []
        settings: dict[str, Any] = {}
        about = float(self._needed)
        for option, freed in sorted(tried, key=lambda one: (not one[0].keeps_result, -one[1])):
            merged = settings | dict(option.settings)
            overlap = settings.keys() & option.settings.keys()
            if overlap or with_settings(self._now.config, merged) is None:
                continue
            chosen, settings, about = [*chosen, option], merged, about * (1 - freed / self._needed)
            if len(chosen) > 1:
                yield chosen, settings, about

    def _sum(self, chosen: Sequence[Option], settings: Settings) -> Change | None:
        freed = self._freed(self._after(settings), takes_step=any(option.takes_step for option in chosen))
        if freed is None:
            return None
        return Change(
            settings=as_assignments(settings),
            frees_bytes=freed,
            resource=self._now.resource,
            costs="; ".join(option.price() for option in chosen),
            keeps_result=all(option.keeps_result for option in chosen),
            is_combined=True,
        )

    def _after(self, settings: Settings) -> Config:
        after = with_settings(self._now.config, settings)
        assert after is not None, "it was found valid before"
        return after

    def _begin(self, configs: Iterable[Config]) -> None:
        """Have what may be asked for begun, where several predictions can be made at a time."""
        if isinstance(self._predict, SideBySide):
            self._predict.begin(map(self._asked, configs))

    def _freed(self, after: Config, *, takes_step: bool) -> int | None:
        """Return the bytes that a configuration frees, None where no run can have it."""
        try:
            step = self._new_step(after) if takes_step else self._now.step
            return self._needed - self._bytes(step, self._new_host(after, step))
        except (DeblurkitError, RuntimeError, ValueError):  # clips too small for a teacher or a loss
            return None

    def _bytes(self, step: StepMemory | None, host: HostMemory | None) -> int:
        if self._now.resource == "device":
            return 0 if step is None else step.total_bytes
        assert host is not None
        return host.shm_bytes if self._now.resource == "shm" else host.needed_bytes

    def _new_step(self, after: Config) -> StepMemory:
        before = self._now.step
        assert before is not None
        config, about = self._asked(after)
        found = as_shared(self._predict(config, **about), after, ranks=self._now.world_size)
        if VALIDATION in before.phases and VALIDATION not in found.phases:
            return self._with_validation(found, after)
        return found

    def _with_validation(self, found: StepMemory, after: Config) -> StepMemory:
        now, before = self._now, self._now.step
        assert before is not None
        if now.frame_shape is None:  # its size is not known here
            return replace(found, phases={**found.phases, VALIDATION: before.phases[VALIDATION]})
        return with_validation(found, before, now=now.config, after=after)

    def _new_host(self, config: Config, step: StepMemory | None) -> HostMemory | None:
        if self._now.resource == "device":
            return None
        return self._predict_host(config, step=step, **self._known())

    def _asked(self, after: Config) -> Asked:
        """Return what the predictor is asked: a validation that stays as it is need not be taken again."""
        about = self._known()
        if keeps_validation(self._now.config, after):
            about.pop("frame_shape", None)
        return after, about

    def _known(self) -> dict[str, Any]:
        """Return the arguments of a prediction that are known here; others are the predictor's own."""
        found: dict[str, Any] = {}
        if self._now.step is not None:
            found["device_kind"] = self._now.step.device_kind
        if self._now.host is not None:
            found["world_size"] = self._now.host.world_size
        if self._now.frame_shape is not None:
            found["frame_shape"] = self._now.frame_shape
        return found


def _is_behind(option: Option, found: Sequence[Tried], most: int) -> bool:
    """Return whether so many are known that free as much as ``option`` may, or more."""
    return sum(freed >= option.may_free for _, freed in found) >= most


def _affordable(options: Sequence[Option], most: int) -> list[Option]:
    """Return the options without those whose steps are too many to predict."""
    steps = itertools.accumulate(int(option.takes_step) for option in options)
    counted = zip(options, steps, strict=True)
    return [option for option, count in counted if count <= most or not option.takes_step]


def _unsaid(done: int, total: int) -> None:
    """Tell nobody."""
