"""What a search for a configuration passes around: candidates, what is predicted, what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from deblurkit.config.schema import Config

Settings: TypeAlias = Mapping[str, Any]  # plain values by dotted name
Effect: TypeAlias = Literal["none", "rounding", "accuracy"]
Outcome: TypeAlias = Literal["measured", "out of memory", "timed out", "killed", "failed"]
Memory: TypeAlias = Literal["device", "host"]

CONFIDENCE = 0.9  # of every interval that is told
INTERRUPTED = "interrupted"  # why a search ended, where that was Ctrl-C or another signal


def key_of(settings: Settings) -> str:
    """Return what tells settings apart, whatever their order: JSON."""
    return json.dumps(dict(settings), sort_keys=True, default=list)


@dataclass(frozen=True)
class Candidate:
    """A configuration of the search space.

    Attributes:
        settings: in which it differs from the one that the search starts from; empty for that itself.
        config: the whole of it.
        choices: what is chosen on each axis of the space, in words by the axis's name.
        effect: on training: ``none``, the same sums; ``rounding``, other digits of the same sums (16-bit
            products, 8-bit states); ``accuracy``, another network or other clips.
        devices: ranks that it trains on.
    """

    settings: Settings
    config: Config
    choices: Mapping[str, str]
    effect: Effect = "none"
    devices: int = 1

    @property
    def key(self) -> str:
        """What tells it from the others of its space."""
        return f"{self.devices} {key_of(self.settings)}"

    @property
    def batch_size(self) -> int:
        """Clips of a micro-step on one device."""
        return self.config.train.batch_size

    @property
    def accumulation(self) -> int:
        """Micro-steps of an optimiser step."""
        return self.config.train.gradient_accumulation_steps

    @property
    def effective_batch(self) -> int:
        """Clips of an optimiser step, of all devices."""
        return self.batch_size * self.accumulation * self.devices


@dataclass(frozen=True)
class Work:
    """What a micro-step of a candidate computes and moves, counted on fake tensors.

    Attributes:
        forward_flops: of the forward pass and the loss; two for a multiplication with addition.
        backward_flops: of the backward pass, with what is computed again in it.
        forward_bytes: that operators of the forward pass and the loss read and write.
        backward_bytes: likewise of the backward pass.
        forward_calls: operators called.
        backward_calls: likewise.
        weights: that the optimiser changes.
    """

    forward_flops: float
    backward_flops: float
    forward_bytes: float
    backward_bytes: float
    forward_calls: float
    backward_calls: float
    weights: int


@dataclass(frozen=True)
class Trial:
    """A candidate that was tried: a few of its steps, in a process of their own.

    Attributes:
        key: of the candidate.
        outcome: what came of it.
        detail: why there are no figures, in a clause; empty where it was measured.
        seconds: that the trial took, with the start of its process.
        step_seconds: of each step that was timed.
        phases: median seconds of a step by phase; the micro-steps of a step together.
        peak_bytes: most bytes of tensors in a step, as the device or a tracker counted them; None if not.
        host_bytes: most that the process held (PSS); None where that cannot be read.
        is_cached: whether it was taken from an earlier search on this machine.
        reserved_bytes: most that PyTorch's allocator had taken of the device; None on a CPU.
        ran_out: the memory that ran out; None where none did, or where it is not known which.
    """

    key: str
    outcome: Outcome
    detail: str
    seconds: float
    step_seconds: tuple[float, ...] = ()
    phases: Mapping[str, float] | None = None
    peak_bytes: int | None = None
    host_bytes: int | None = None
    is_cached: bool = False
    reserved_bytes: int | None = None
    ran_out: Memory | None = None


@dataclass(frozen=True)
class Estimate:
    """Seconds of an optimiser step, as far as they are known.

    Attributes:
        seconds: the median of what they may be.
        low: the end of the interval of CONFIDENCE towards fewer.
        high: the other end.
        is_measured: whether the candidate itself was tried.
        phases: seconds of a step by phase, their sum about `seconds`.
    """

    seconds: float
    low: float
    high: float
    is_measured: bool
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A candidate and all that is known of it.

    Attributes:
        candidate: that it is of.
        peak_bytes: most that its device holds, overheads with it; on a CPU, tensors of a step or a validation
            alone; None where no prediction could be made.
        host_bytes: most that all of its processes hold of the machine; None where unknown.
        fits: whether both are there.
        estimate: of a step; None where nothing tells (no trial went well).
        trial: its own; None where it was not tried.
        verdict: why it is the best, or why it is not, in a clause with its arithmetic.
    """

    candidate: Candidate
    peak_bytes: int | None
    host_bytes: int | None
    fits: bool
    estimate: Estimate | None
    trial: Trial | None
    verdict: str = ""

    @property
    def samples_per_second(self) -> float | None:
        """Clips of all devices in a second; None where nothing tells."""
        return None if self.estimate is None else self.candidate.effective_batch / self.estimate.seconds

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends of the interval of `samples_per_second`."""
        if self.estimate is None:
            return None
        clips = self.candidate.effective_batch
        return clips / self.estimate.high, clips / self.estimate.low


@dataclass(frozen=True)
class Budget:
    """What a search has.

    Attributes:
        device_bytes: memory of a device; None: without bound.
        host_bytes: memory of the machine for all processes of a run; None: without bound.
        trials: most that are made.
        seconds: that all trials may take together; None: without bound.
        trial_seconds: that one may take before it is ended.
    """

    device_bytes: int | None = None
    host_bytes: int | None = None
    trials: int = 10
    seconds: float | None = None
    trial_seconds: float = 300.0


@dataclass(frozen=True)
class Verification:
    """The recommended configuration against the one that the search started from, run in turns.

    Attributes:
        promised: how many times as fast it was said to be, with the ends of the interval.
        measured: how many times as fast it was: the median of the rounds' ratios.
        low: the smallest ratio of a round, or the end of its interval.
        high: the largest, or the other end.
        rounds: pairs of trials.
        keeps: whether the measured interval and the promised one have a part in common.
    """

    promised: tuple[float, float, float]
    measured: float
    low: float
    high: float
    rounds: int
    keeps: bool


@dataclass(frozen=True)
class Recommendation:
    """What a search has found.

    Attributes:
        hardware: what it was measured on, and for which card it is a prediction, in words.
        is_prediction: whether no step was measured on the hardware asked for.
        budget: that it had.
        rows: of all candidates, fastest first; those that do not fit, or of which nothing is known, last.
        start: the row of the configuration as it was given.
        best: the row of the recommended one, its `host_bytes` those of `recommended`; None: there is none.
        front: rows that no other beats in both memory and throughput, least memory first.
        path: from the start to the best, one axis after the other changed, the largest gain first.
        trials: in the order in which they were made.
        samples_per_epoch: training clips of an epoch; None where the data is not there.
        epochs: of the run.
        stopped: why the search ended, in a clause.
        notes: what the reader should know, a line each.
        verification: what a check has found; None without one.
        recommended: the configuration to train with: the best one's, with the settings of its loading.
        loading_settings: these settings.
        loading_words: what loading was measured to take and what is set for it, a line each.
        learning_rate: the rule that the rate follows, in words.
        unpredicted: why no memory could be predicted; empty where some could.
        verification_error: why a check that was begun has no figures; empty otherwise.
        is_stopgap: whether the search was broken off before a trial told of anything, and `best` is what to
            go with nonetheless; its verdict says what is not known.
    """

    hardware: str
    is_prediction: bool
    budget: Budget
    rows: tuple[Row, ...]
    start: Row
    best: Row | None
    front: tuple[Row, ...]
    path: tuple[Row, ...]
    trials: tuple[Trial, ...]
    samples_per_epoch: int | None
    epochs: int
    stopped: str
    notes: tuple[str, ...] = ()
    verification: Verification | None = None
    recommended: Config | None = None
    loading_settings: Settings = field(default_factory=dict)
    loading_words: tuple[str, ...] = ()
    learning_rate: str = ""
    unpredicted: str = ""
    verification_error: str = ""
    is_stopgap: bool = False
