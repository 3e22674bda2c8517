"""What a search finds out before a step is taken: loading, memory, and the work of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from deblurkit.config.schema import Config
from deblurkit.errors import DataError, DeblurkitError
from deblurkit.tuning.recommend.kept_lines import kept_folder
from deblurkit.tuning.recommend.loading import Loading, count_clips, measure_loading
from deblurkit.tuning.recommend.place import Place
from deblurkit.tuning.recommend.records import Budget, Candidate, Work
from deblurkit.tuning.recommend.space_memory import CandidateMemory, predict_space
from deblurkit.tuning.recommend.step_jobs import StepJob
from deblurkit.tuning.recommend.stopping import Stopping
from deblurkit.tuning.recommend.work import count_work
from deblurkit.tuning.run_memory import DataSize
from deblurkit.tuning.step_memory import StepMemory
from deblurkit.units import plural

Tell: TypeAlias = Callable[[str], None]
Progress: TypeAlias = Callable[[str, int, int], None]

MEMORY, WORK = "memory of the space", "work of a step"


class Groundwork:
    """Finds out what there is time for: what is broken off is left out.

    Args:
        config: that a search starts from.
        place: that it is for.
        budget: that it has.
        stopping: asks for an end.
        message: told what takes long, in a line.
        on_progress: told what is being done, how much of it is, and of how much.
        folder: of what is kept from search to search; None is the user's cache.
    """

    def __init__(
        self,
        config: Config,
        place: Place,
        budget: Budget,
        *,
        stopping: Stopping,
        message: Tell,
        on_progress: Progress,
        folder: Path | None,
    ) -> None:
        self.budget = budget
        self._config, self._place, self._stopping = config, place, stopping
        self._message, self._on_progress, self._folder = message, on_progress, folder

    def loading(self) -> Loading | None:
        """Return what loading takes; None where no dataset is there, or the answer is for another machine."""
        if not self._place.can_measure:
            return None
        measure = partial(
            measure_loading, self._config, device_kind=self._place.device_kind, message=self._message
        )
        return self._stopping.attempt(measure, otherwise=None)

    def samples_per_epoch(self, loading: Loading | None) -> int | None:
        """Return the training clips of an epoch, counted where loading was not measured."""
        if loading is not None:
            return loading.num_clips
        count = partial(count_clips, self._config, device_kind=self._place.device_kind)
        try:
            return self._stopping.attempt(count, otherwise=None)
        except DataError:  # a note says what is wrong with it, and the answer does not need it
            return None

    def memory(self, candidates: Sequence[Candidate], data: DataSize) -> Mapping[str, CandidateMemory]:
        """Return what all candidates of the space hold, by their keys."""
        if not self._stopping.is_asked:
            self._message(f"predicting the memory of {plural(len(candidates), 'configuration')} …")
        return self.predicted(candidates, data, on_progress=partial(self._on_progress, MEMORY))

    def predicted(
        self,
        candidates: Sequence[Candidate],
        data: DataSize,
        *,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Mapping[str, CandidateMemory]:
        """Return what candidates hold; where there is no time, as far as that is kept."""
        predict = partial(
            predict_space,
            candidates,
            device_kind=self._place.device_kind,
            frame_shape=data.frame_shape,
            num_frames=data.num_frames,
            storage=data.storage,
            budget=self.budget,
            store=self.kept("memory", "predictions.jsonl"),
        )
        ahead = partial(predict, on_progress=on_progress, guard=self._stopping.held)
        found = self._stopping.attempt(ahead, otherwise=None)
        return predict(predict=_not_now, workers=0) if found is None else found

    def work(self, candidates: Sequence[Candidate]) -> Mapping[str, Work]:
        """Return the work of a micro-step of candidates, by their keys; of none where there is no time."""
        count = partial(
            count_work,
            candidates,
            device_kind=self._place.device_kind,
            store=self.kept("memory", "work.jsonl"),
            on_progress=partial(self._on_progress, WORK),
            guard=self._stopping.held,
        )
        return self._stopping.attempt(count, otherwise={})

    def kept(self, kind: str, name: str) -> Path:
        """Return the file that results of a kind are kept in."""
        return (kept_folder(kind) if self._folder is None else self._folder) / name


def may_fit(held: CandidateMemory, budget: Budget) -> bool:
    """Return whether nothing that is known of its memory tells that a candidate does not fit."""
    return not _exceeds(held.peak_bytes, budget.device_bytes) and not _exceeds(
        held.host_bytes, budget.host_bytes
    )


def _exceeds(held: int | None, there: int | None) -> bool:
    return held is not None and there is not None and held > there


def _not_now(job: StepJob) -> list[StepMemory]:
    """Predict nothing: there is no time for it."""
    raise DeblurkitError("the search was interrupted before it was predicted")
