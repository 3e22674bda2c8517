"""What a run tells whoever watches it: a display, a test, or nobody."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from deblurkit.data.workers import WorkerPlan
from deblurkit.timing.records import StepTiming
from deblurkit.training.distributed import Ranks
from deblurkit.training.validate import Validation
from deblurkit.training.verification import Check


@dataclass(frozen=True)
class RunPlan:
    """What a run is about to do.

    Attributes:
        clips: training samples of an epoch.
        first_step: 1, or where a resumed run goes on.
        batch_size: samples of a micro-step on each GPU.
        world_size: processes that train together.
    """

    folder: Path
    device: str
    architecture: str
    parameters: int
    clips: int
    total_steps: int
    first_step: int
    batch_size: int
    accumulation: int
    workers: WorkerPlan
    train_prefetch_factor: int
    val_prefetch_factor: int
    world_size: int = 1


@dataclass(frozen=True)
class Progress:
    """How a run stands after a step; rates are over the steps since the last report.

    Attributes:
        data_ms: the step's wait for data, or None where steps are not timed.
        load_ms: what reading a sample took on average, in the workers; None where nothing was read.
    """

    step: int
    total_steps: int
    loss: float
    learning_rate: float
    samples_per_second: float
    data_ms: float | None
    load_ms: float | None = None

    def as_line(self) -> str:
        """Return the line of the training log, in the seed's form."""
        data = "" if self.data_ms is None else f" | data_time={self.data_ms:.1f}ms"
        load = "" if self.load_ms is None else f" | load_time={self.load_ms:.1f}ms"
        return (
            f"step {self.step}/{self.total_steps} | loss={self.loss:.5f} | lr={self.learning_rate:.3e}"
            f" | {self.samples_per_second:.1f} samples/s{data}{load}"
        )


class Observer(Protocol):
    """Told what a run does, while it does it."""

    def message(self, text: str) -> None:
        """Take a line that the user may want to see."""

    def warning(self, text: str) -> None:
        """Take a line that the user should not miss."""

    def started(self, plan: RunPlan) -> None:
        """Take the plan, before the first step."""

    def stepped(self, progress: Progress) -> None:
        """Take the state after a step that is reported."""

    def timed(self, timing: StepTiming) -> None:
        """Take the times of a step that is shown."""

    def validated(self, step: int, result: Validation) -> None:
        """Take the scores of a validation."""

    def verified(self, checks: Sequence[Check]) -> None:
        """Take what the checks at the end of the run have found."""


class Silent:
    """The observer of a process that leaves talking to rank 0."""

    def message(self, text: str) -> None:
        """Say nothing."""

    def warning(self, text: str) -> None:
        """Say nothing: rank 0 has the same."""

    def started(self, plan: RunPlan) -> None:
        """Say nothing."""

    def stepped(self, progress: Progress) -> None:
        """Say nothing."""

    def timed(self, timing: StepTiming) -> None:
        """Say nothing."""

    def validated(self, step: int, result: Validation) -> None:
        """Say nothing."""

    def verified(self, checks: Sequence[Check]) -> None:
        """Say nothing."""


def own_warning(observer: Observer, ranks: Ranks) -> Callable[[str], None]:
    """Return who takes a warning of what one rank alone knows: on others than the first, standard error."""
    return observer.warning if ranks.is_main else partial(_say, ranks.rank)


def _say(rank: int, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        print(f"warning of rank {rank}: {' '.join(text.split())}", file=sys.stderr, flush=True)
