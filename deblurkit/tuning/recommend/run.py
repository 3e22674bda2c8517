"""``recommend-config`` from beginning to end: the space, what is known of it, the search, the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from deblurkit.config.changed import changed
from deblurkit.config.schema import Config
from deblurkit.data.workers import available_cpus
from deblurkit.errors import DeblurkitError, UsageError
from deblurkit.tuning.recommend.front import pareto_front, path_between
from deblurkit.tuning.recommend.groundwork import Groundwork, Progress, Tell, may_fit
from deblurkit.tuning.recommend.hardware import describe_hardware
from deblurkit.tuning.recommend.loading import Loading
from deblurkit.tuning.recommend.loading_plan import plan_loading
from deblurkit.tuning.recommend.loading_room import HeldPlan, within_host
from deblurkit.tuning.recommend.notes import notes_on
from deblurkit.tuning.recommend.place import Place, find_place, numbers_of_devices, with_defaults
from deblurkit.tuning.recommend.promised import promised_gain
from deblurkit.tuning.recommend.records import (
    INTERRUPTED,
    Budget,
    Candidate,
    Recommendation,
    Row,
    Trial,
    Verification,
    Work,
)
from deblurkit.tuning.recommend.search import Search
from deblurkit.tuning.recommend.space import learning_rate_rule, search_space
from deblurkit.tuning.recommend.space_memory import CandidateMemory
from deblurkit.tuning.recommend.stopgap import is_start, with_stopgap
from deblurkit.tuning.recommend.stopping import Stopping
from deblurkit.tuning.recommend.trial_store import TrialStore
from deblurkit.tuning.recommend.trials import run_trial
from deblurkit.tuning.recommend.verify import verify
from deblurkit.tuning.run_memory import DataSize, size_of_data

OnTrial: TypeAlias = Callable[[Candidate, Trial, Row | None], None]

NOTHING_TO_VERIFY = "verification: the start itself is recommended, so there is nothing to run it against"
_STEPS = 4  # of a trial that are timed, at least: more where they are short
TRIALS, VERIFYING = "trials", "verification"


@dataclass(frozen=True)
class Question:
    """What a search is asked.

    Attributes:
        config: that it starts from.
        budget: that it has; what is None is what the place has.
        allow: what may be changed beyond what leaves training alone, as `search_space` has it.
        devices: GPUs at most.
        card: a graphics card by name; None is what is here.
        use_data: take the steps of trials on the run's own clips.
        verify_rounds: pairs of trials that check the answer; 0 for none.
        fresh: leave out what earlier searches have measured.
    """

    config: Config
    budget: Budget
    allow: frozenset[str] = frozenset()
    devices: int = 1
    card: str | None = None
    use_data: bool = False
    verify_rounds: int = 0
    fresh: bool = False


def recommend(
    question: Question,
    *,
    message: Tell,
    on_progress: Progress = lambda what, done, total: None,
    on_trial: OnTrial = lambda candidate, trial, best: None,
    run: Callable[..., Trial] = run_trial,
    place: Place | None = None,
    store: Path | None = None,
    stopping: Stopping | None = None,
) -> Recommendation:
    """Return the answer to a question; Ctrl-C ends what is going on, and the answer is what is known by then.

    Args:
        question: what is asked.
        message: told what takes long, in a line.
        on_progress: told what is being done, how much of it is, and of how much.
        on_trial: told of each trial, with the best row after it.
        run: makes a trial, as `run_trial`.
        place: where the search is; None looks.
        store: folder of what is kept from search to search; None is the user's cache.
        stopping: asks for the answer before its time; None: KeyboardInterrupt alone does.

    Raises:
        UsageError: for a card, its memory or a number of GPUs that cannot be.
        DeblurkitError: if the dataset cannot be read.
    """
    place = find_place(question.config, card=question.card) if place is None else place
    if question.verify_rounds and not place.can_measure:
        raise UsageError(
            f"--verify: no step can be taken on {place.hardware} here; leave it out, or verify where it is"
        )
    budget = with_defaults(question.budget, place)
    stopping = Stopping() if stopping is None else stopping
    groundwork = Groundwork(
        question.config,
        place,
        budget,
        stopping=stopping,
        message=message,
        on_progress=on_progress,
        folder=store,
    )
    job = _Job(question, place, groundwork, stopping=stopping, on_progress=on_progress, run=run)
    return job.answer(on_trial)


class _Job:
    """A search with all that it asks."""

    def __init__(
        self,
        question: Question,
        place: Place,
        groundwork: Groundwork,
        *,
        stopping: Stopping,
        on_progress: Progress,
        run: Callable[..., Trial],
    ) -> None:
        self._question, self._place, self._groundwork = question, place, groundwork
        self._stopping, self._on_progress = stopping, on_progress
        self._run_trial = run
        self.budget = groundwork.budget
        path = groundwork.kept("trials", "trials.jsonl")
        self._trials = TrialStore(path, budget=self.budget, use_data=question.use_data)
        self._hardware = describe_hardware(place.device_kind)
        self._numbers = numbers_of_devices(question.devices, place)
        self._spent = 0.0  # seconds of trials

    def answer(self, on_trial: OnTrial) -> Recommendation:
        """Return what is recommended."""
        question, groundwork = self._question, self._groundwork
        candidates = self._space()
        loading = groundwork.loading()  # which draws the synthetic dataset: its sizes are known from here on
        data = size_of_data(question.config.data)
        memory = groundwork.memory(candidates, data)
        fitting = [each for each in candidates[1:] if may_fit(memory[each.key], self.budget)]
        work = groundwork.work([candidates[0], *fitting])
        search = self._search(candidates, memory, work, on_trial)
        self._searched(search)
        found = self._found(search, loading=loading, data=data)
        if all(held.peak_bytes is None for held in memory.values()):
            found = replace(found, unpredicted=memory[candidates[0].key].from_)
        if question.verify_rounds and found.best is not None and found.stopped != INTERRUPTED:
            return self._with_verification(found)
        return found

    def _space(self) -> list[Candidate]:
        question, place = self._question, self._place
        return search_space(
            question.config,
            device_kind=place.device_kind,
            allow=question.allow,
            devices=self._numbers,
            has_bf16=place.has_bf16,
            has_eight_bit=place.has_eight_bit,
            accuracy_changes=1,
        )

    def _search(
        self,
        candidates: Sequence[Candidate],
        memory: Mapping[str, CandidateMemory],
        work: Mapping[str, Work],
        on_trial: OnTrial,
    ) -> Search:
        made = partial(
            Search,
            candidates,
            memory=memory,
            budget=self.budget,
            run=self._try,
            prior=self._place.prior,
            on_trial=on_trial,
        )
        search = self._stopping.attempt(partial(made, work=work), otherwise=None)
        return made(work={}) if search is None else search

    def _searched(self, search: Search) -> None:
        """Make the trials."""

        def steps() -> None:
            while search.step() is not None:
                self._on_progress(TRIALS, len(search.trials), self.budget.trials)

        self._stopping.attempt(steps, otherwise=None)

    def _try(self, candidate: Candidate) -> Trial:
        kept = None if self._question.fresh else self._trials.find(candidate, self._hardware)
        if kept is not None:
            return kept
        trial = self._measured(candidate, limit_seconds=self._seconds_left())
        self._spent += trial.seconds
        self._trials.add(candidate, self._hardware, trial)
        return trial

    def _seconds_left(self) -> float:
        """Return the seconds that the next trial may take."""
        budget = self.budget
        if budget.seconds is None:
            return budget.trial_seconds
        return min(budget.trial_seconds, budget.seconds - self._spent)

    def _measured(self, candidate: Candidate, *, limit_seconds: float | None = None) -> Trial:
        budget = self.budget
        return self._run_trial(
            candidate,
            steps=_STEPS,
            limit_seconds=budget.trial_seconds if limit_seconds is None else limit_seconds,
            device_bytes=budget.device_bytes if self._place.device_kind == "cuda" else None,
            host_bytes=budget.host_bytes,
            use_data=self._question.use_data,
        )

    def _found(self, search: Search, *, loading: Loading | None, data: DataSize) -> Recommendation:
        question, rows, best = self._question, search.rows(), search.best()
        is_stopgap = self._stopping.is_asked and not (best is not None and search.trials)
        if is_stopgap:
            rows, best = with_stopgap(rows)
        start = next(filter(is_start, rows))
        held = None if best is None or loading is None else self._planned(best, loading, data)
        plan = None if held is None else held.plan
        if best is not None and held is not None:
            best = replace(best, host_bytes=held.host_bytes)
        found = Recommendation(
            hardware=self._place.hardware,
            is_prediction=not self._place.can_measure,
            budget=self.budget,
            rows=rows,
            start=start,
            best=best,
            front=pareto_front(rows, best),
            path=path_between(rows, start, best),
            trials=tuple(search.trials),
            samples_per_epoch=self._groundwork.samples_per_epoch(loading),
            epochs=question.config.train.epochs,
            stopped=search.stopped,
            notes=self._notes(data, search.trials),
            recommended=None if best is None else _with_loading(best.candidate.config, held),
            loading_settings={} if plan is None else plan.settings,
            loading_words=() if plan is None else plan.words,
            learning_rate="" if best is None else learning_rate_rule(question.config, best.candidate),
            is_stopgap=is_stopgap and best is not None,
        )
        return replace(found, stopped=INTERRUPTED) if self._stopping.is_asked else found

    def _planned(self, best: Row, loading: Loading, data: DataSize) -> HeldPlan | None:
        if best.estimate is None:
            return None
        candidate, room = best.candidate, self.budget.host_bytes
        if room is not None:
            room = max(0, room - (best.host_bytes or 0))
        plan = plan_loading(
            candidate.config,
            loading,
            step_seconds=best.estimate.seconds,
            clips_per_step=candidate.effective_batch,
            devices=candidate.devices,
            cpus=available_cpus(),
            host_room=room,
            device_kind=self._place.device_kind,
        )
        return within_host(
            plan,
            candidate,
            host_bytes=self.budget.host_bytes,
            predict=lambda candidates: self._groundwork.predicted(candidates, data),
        )

    def _with_verification(self, found: Recommendation) -> Recommendation:
        """Return an answer with what its check has found, or a note of why there is no check."""
        assert found.best is not None
        if found.best.candidate.key == found.start.candidate.key:
            return replace(found, notes=(*found.notes, NOTHING_TO_VERIFY))
        interrupted = replace(found, stopped=INTERRUPTED)
        try:
            verified = partial(self._verified, found)
            return self._stopping.attempt(
                lambda: replace(found, verification=verified()), otherwise=interrupted
            )
        except DeblurkitError as error:
            notes = (*found.notes, f"verification: {error}")
            return replace(found, notes=notes, verification_error=str(error))

    def _verified(self, found: Recommendation) -> Verification | None:
        """Return how the answer holds beside the start; None where there is nothing to compare."""
        start, best = found.start, found.best
        assert best is not None
        promised = promised_gain(start, best)
        can_run = self._place.can_measure and start.fits and best.candidate.devices == 1
        if promised is None or not can_run or not best.candidate.settings:
            return None
        return verify(
            start.candidate,
            best.candidate,
            promised=promised,
            run=self._measured,
            rounds=self._question.verify_rounds,
            on_progress=partial(self._on_progress, VERIFYING),
        )

    def _notes(self, data: DataSize, trials: Sequence[Trial]) -> tuple[str, ...]:
        config, place = self._question.config, self._place
        return tuple(notes_on(config, place, data=data, numbers=self._numbers, trials=trials))


def _with_loading(config: Config, held: HeldPlan | None) -> Config:
    """Return a configuration with the settings of a plan, where these make a valid one."""
    return config if held is None else changed(config, held.plan.settings) or config
