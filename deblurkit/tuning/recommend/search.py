"""The search for the fastest configuration that fits: few trials, each where it tells most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np

from deblurkit.tuning.recommend.cards import Prior
from deblurkit.tuning.recommend.choice_effects import class_of
from deblurkit.tuning.recommend.front import in_order
from deblurkit.tuning.recommend.next_trial import chance_of_faster, gains
from deblurkit.tuning.recommend.records import Budget, Candidate, Memory, Row, Trial, Work
from deblurkit.tuning.recommend.refused import Refused, too_many
from deblurkit.tuning.recommend.roofline import Array
from deblurkit.tuning.recommend.step_model import StepModel
from deblurkit.tuning.recommend.trial_figures import BETWEEN
from deblurkit.tuning.recommend.verdict_words import best_verdict, verdict_of
from deblurkit.tuning.recommend.words import changed_axes
from deblurkit.units import format_duration, format_share, plural

OnTrial: TypeAlias = Callable[[Candidate, Trial, Row | None], None]

FASTER, CHANCE = 0.02, 0.05  # the search ends when it is less likely than this that one is so much faster
_DRAWS = 512
_CONTENDERS = 256  # candidates that are weighed against each other


class HeldBytes(Protocol):
    """What a candidate holds: `space_memory.CandidateMemory`, or alike."""

    @property
    def peak_bytes(self) -> int | None:
        """Most of its device; None where unknown."""

    @property
    def host_bytes(self) -> int | None:
        """Most of the machine; None where unknown."""

    @property
    def is_bound(self) -> bool:
        """Whether it may hold more than these."""

    @property
    def from_(self) -> str:
        """Where the bytes are from; or why there are none."""


@dataclass
class _Entry:
    """A candidate of the space, what it holds, and the trial that was made of it."""

    candidate: Candidate
    key: str
    held: HeldBytes | None
    is_known: bool  # to the model
    trial: Trial | None = None

    @property
    def peak_bytes(self) -> int | None:
        return None if self.held is None else self.held.peak_bytes

    @property
    def host_bytes(self) -> int | None:
        return None if self.held is None else self.held.host_bytes

    @property
    def needs(self) -> Mapping[Memory, int | None]:
        return {"device": self.peak_bytes, "host": self.host_bytes}

    @property
    def was_measured(self) -> bool:
        return self.trial is not None and self.trial.outcome == "measured"

    @property
    def has_failed(self) -> bool:
        return self.trial is not None and not self.was_measured

    @property
    def ran_out(self) -> bool:
        trial = self.trial
        return trial is not None and (trial.outcome == "out of memory" or trial.ran_out is not None)


class Search:
    """Tries candidates one after the other; its rows can be asked for at any moment.

    Attributes:
        trials: those made so far, in order.
        stopped: why there are no more, in a clause; empty as long as there are.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        *,
        memory: Mapping[str, HeldBytes],
        work: Mapping[str, Work],
        budget: Budget,
        run: Callable[[Candidate], Trial],
        prior: Prior,
        on_trial: OnTrial = lambda candidate, trial, best: None,
        seed: int = 0,
    ) -> None:
        """Take the candidates, the configuration as it is first, and what is known of each by its key."""
        self._budget, self._run, self._on_trial, self._seed = budget, run, on_trial, seed
        self._steps, self._learnt = StepModel(candidates, work, prior=prior), 0
        self._entries = [
            _Entry(each, key, memory.get(key), key in work)
            for each, key in ((each, each.key) for each in candidates)
        ]
        unchanged = (each for each in self._entries if not each.candidate.settings)
        self._start = next(unchanged, self._entries[0])
        self._refused = Refused()
        self.trials: list[Trial] = []
        self.stopped = ""

    def step(self) -> Trial | None:
        """Make the trial that tells most, and return it; None where the search has ended."""
        entry = self._next()
        if entry is None:
            return None
        assert entry.candidate.devices == 1, "only one device is here to try"
        trial = self._run(entry.candidate)
        self._learn(entry, trial)
        self._on_trial(entry.candidate, trial, self.best())
        return trial

    def rows(self) -> tuple[Row, ...]:
        """Return all rows with their verdicts: the best, the usable ones, fastest first, then the others."""
        best = self.best()
        entries = {entry.key: entry for entry in self._entries}
        rows = in_order([self._row(entry) for entry in self._entries], best)
        return tuple(self._judged(row, best, entries[row.candidate.key]) for row in rows)

    def best(self) -> Row | None:
        """Return the recommended row; None where nothing that fits is known, or all trials have failed.

        It is the fastest by all trials together, so that one that was lucky in its own does not win by that.
        Where nothing was tried it is, of those said to be about as fast, the nearest to the start: each
        change that a measurement does not speak for is a risk.
        """
        allowed = self._may_be_best()
        if not allowed:
            return None
        best = self._row(self._fastest(allowed))
        fitting = sum(map(self._may_run, self._entries))
        within = 0.0 if self.trials else FASTER
        return replace(best, verdict=best_verdict(best, fitting, len(self._entries), within=within))

    def _learn(self, entry: _Entry, trial: Trial) -> None:
        entry.trial = trial
        self.trials.append(trial)
        needed = None if trial.ran_out is None else entry.needs[trial.ran_out]
        if trial.ran_out is not None and needed is not None:
            self._refused.note(entry.candidate, trial.ran_out, needed)

    @property
    def _model(self) -> StepModel:
        """What is known of steps by all trials; it learns when asked, as an interrupt may end learning."""
        if self._learnt < len(self.trials):
            self._steps.fit(self.trials)
            self._learnt = len(self.trials)
        return self._steps

    def _next(self) -> _Entry | None:
        """Return what to try; None, and why in `stopped`, where there is nothing."""
        left = [
            entry
            for entry in self._entries
            if entry.trial is None and entry.candidate.devices == 1 and self._may_run(entry)
        ]
        self.stopped = self._why_ended(left)
        if self.stopped:
            return None
        return self._most_telling(left) if self.trials else self._first(left)

    def _why_ended(self, left: Sequence[_Entry]) -> str:
        budget, spent = self._budget, sum(each.seconds for each in self.trials if not each.is_cached)
        if not any(map(self._fits, self._entries)):
            return "nothing fits"
        if budget.trials == 0:
            return "no trials are to be made"
        if len(self.trials) >= budget.trials:
            return f"{plural(budget.trials, 'trial')} made, as many as may be"
        if not left:
            return "all that fit were tried"
        if budget.seconds is not None and spent >= budget.seconds:
            of = format_duration(budget.seconds)
            return f"the time for trials is spent: {format_duration(spent)} of {of}"
        return ""

    def _first(self, left: Sequence[_Entry]) -> _Entry:
        """Return the start, or the nearest to it of those that fit: by choices, then by memory."""
        start = self._start

        def distance(entry: _Entry) -> tuple[int, int]:
            held, other = start.peak_bytes, entry.peak_bytes
            apart = len(changed_axes(start.candidate, entry.candidate))
            return apart, 0 if held is None or other is None else abs(held - other)

        return start if start in left else min(left, key=distance)

    def _most_telling(self, left: Sequence[_Entry]) -> _Entry | None:
        """Return that whose trial is worth most; None where none is likely faster than the best."""
        measured = [entry for entry in self._entries if entry.was_measured and self._fits(entry)]
        weighed = self._contenders([*measured, *left], keep=len(measured))
        logs = self._logs(weighed, _DRAWS)
        best = max(range(len(measured)), key=lambda at: self._believed(measured[at]), default=None)
        if best is not None and (chance := chance_of_faster(logs, best, by=FASTER)) < CHANCE:
            self.stopped = (
                f"of those not tried none is likely more than {format_share(FASTER)} faster than the best:"
                f" the chance is {format_share(chance)}"
            )
            return None
        worth = gains(logs, best=best, noise=BETWEEN, may_go_on=len(self.trials) + 1 < self._budget.trials)
        untried = range(len(measured), len(weighed))
        return weighed[max(untried, key=lambda at: float(worth[at]) * self._chance(weighed[at]))]

    def _contenders(self, entries: Sequence[_Entry], *, keep: int) -> list[_Entry]:
        """Return the first ``keep``, and of the others those that may be fastest."""
        if len(entries) <= _CONTENDERS:
            return list(entries)
        likely = np.quantile(self._logs(entries[keep:], _DRAWS // 2), 0.1, axis=0).argsort()
        return [*entries[:keep], *(entries[keep + at] for at in likely[: _CONTENDERS - keep])]

    def _logs(self, entries: Sequence[_Entry], count: int) -> Array:
        """Return draws of the logarithm of seconds for a clip: (count, entries)."""
        candidates = [entry.candidate for entry in entries]
        clips = np.array([each.effective_batch for each in candidates], dtype=np.float64)
        seed = 1000 * self._seed + len(self.trials)
        return np.asarray(np.log(self._model.samples(candidates, count, seed) / clips))

    def _believed(self, entry: _Entry) -> float:
        """Return the clips of a second by all trials together."""
        return entry.candidate.effective_batch / self._model.believed(entry.candidate)

    def _fastest(self, entries: Sequence[_Entry]) -> _Entry:
        rates = [self._believed(entry) for entry in entries]
        if self.trials:
            return entries[rates.index(max(rates))]
        start, enough = self._start.candidate, max(rates) / (1 + FASTER)
        near = [(entry, rate) for entry, rate in zip(entries, rates, strict=True) if rate >= enough]
        return min(near, key=lambda each: (len(changed_axes(start, each[0].candidate)), -each[1]))[0]

    def _chance(self, entry: _Entry) -> float:
        """Return how likely a trial goes well, by those of the same choice that did or did not."""
        tried = [each for each in self._entries if each.trial is not None]
        chance = self._chance_of_room(entry)
        for axis, word in entry.candidate.choices.items():
            like = [each for each in tried if each.candidate.choices.get(axis) == word]
            broken = sum(each.has_failed and not each.ran_out for each in like)
            chance *= 1 - broken / (1 + len(like))
        return chance

    def _chance_of_room(self, entry: _Entry) -> float:
        """Return how likely its memory is there, where some has run out: somewhere between most and least.

        Most that was measured is there, the least that ran out is not; what is there may be any in between.
        """
        chance = 1.0
        for memory, least in self._refused.for_steps_like(entry.candidate).items():
            held = max((each.needs[memory] or 0 for each in self._entries if each.was_measured), default=0)
            needed = entry.needs[memory] or 0
            if held < needed < least:
                chance *= (least - needed) / (least - held)
        return chance

    def _fits(self, entry: _Entry) -> bool:
        budget = self._budget
        for needed, there in (
            (entry.peak_bytes, budget.device_bytes),
            (entry.host_bytes, budget.host_bytes),
        ):
            if there is not None and (needed is None or needed > there):
                return False
        if entry.trial is not None and (entry.was_measured or entry.ran_out):
            return entry.was_measured
        return too_many(entry.needs, self._refused.for_steps_like(entry.candidate)) is None

    def _may_run(self, entry: _Entry) -> bool:
        return entry.is_known and not entry.has_failed and self._fits(entry)

    def _may_be_best(self) -> list[_Entry]:
        """Return those that could be recommended: tried ones, and of several devices those tried on one.

        Before the first trial, all that may run.
        """
        usable = [entry for entry in self._entries if self._may_run(entry)]
        classes = {class_of(entry.candidate) for entry in usable if entry.was_measured}
        several = [entry for entry in usable if entry.candidate.devices > 1] if classes else []
        known = [entry for entry in usable if entry.was_measured]
        if not self.trials:
            return usable
        return [*known, *(entry for entry in several if class_of(entry.candidate) in classes)]

    def _row(self, entry: _Entry) -> Row:
        return Row(
            candidate=entry.candidate,
            peak_bytes=entry.peak_bytes,
            host_bytes=entry.host_bytes,
            fits=self._fits(entry),
            estimate=self._model.estimate(entry.candidate) if entry.is_known else None,
            trial=entry.trial,
        )

    def _judged(self, row: Row, best: Row | None, entry: _Entry) -> Row:
        """Return the row with its verdict."""
        if best is not None and entry.key == best.candidate.key:
            return best
        verdict = verdict_of(
            row,
            best,
            budget=self._budget,
            is_bound=entry.held is not None and entry.held.is_bound,
            refused=self._refused.for_steps_like(entry.candidate),
            unknown="" if entry.held is None or entry.held.peak_bytes is not None else entry.held.from_,
        )
        return replace(row, verdict=verdict)
