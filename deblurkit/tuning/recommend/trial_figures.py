"""What a trial says of the seconds of its phases, and how far a later trial may be from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deblurkit.tuning.recommend.records import Candidate, Estimate, Trial
from deblurkit.tuning.recommend.roofline import PHASES, Array, Phase

Z = 1.645  # standard normal deviates of the ends of a 90 % interval
BETWEEN = 0.03  # standard deviation between processes of one configuration, as a share
_LASTING = 0.7  # of the scatter within a trial: what is slow for some steps may be so for all of them
_MEDIAN = 1.25  # a median's standard error, by that of a mean
_MARKS = 0.005  # of a step: what its phases' borders are uncertain by
_LEAST = 1e-3  # of a step: what a phase takes at least
_OF_PHASE: Mapping[str, Phase] = {
    "forward": "forward",
    "loss": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
}


@dataclass(frozen=True)
class Figures:
    """A trial's step, in logarithms of seconds.

    Attributes:
        logs: of each of PHASES, of a micro-step; of the optimizer phase, of a step.
        own_noise: standard deviation of each by itself.
        shared_noise: of all of them together.
    """

    logs: Array
    own_noise: Array
    shared_noise: float


def figures_of(trial: Trial, candidate: Candidate, shares: Mapping[Phase, float]) -> Figures:
    """Return the figures of a trial that went well.

    Args:
        trial: of ``candidate``.
        candidate: that was tried.
        shares: of a step by phase, for a trial that has not told them.
    """
    step = median_seconds(trial)
    seconds = phase_seconds(trial) or {phase: share * step for phase, share in shares.items()}
    of_step = np.array([max(seconds[phase], _LEAST * step) for phase in PHASES])
    parts = np.array([1 if phase == "optimizer" else candidate.accumulation for phase in PHASES])
    within = _scatter(trial)
    by_chance = _MEDIAN * within / math.sqrt(len(trial.step_seconds))
    return Figures(
        logs=np.log(of_step / parts),
        own_noise=np.hypot(by_chance, _MARKS * step / of_step),
        shared_noise=between_trials(trial),
    )


def median_seconds(trial: Trial) -> float:
    """Return the median seconds of a trial's steps."""
    return float(np.median(trial.step_seconds))


def phase_seconds(trial: Trial) -> dict[Phase, float] | None:
    """Return the seconds of a step by phase, in PHASES; None where the trial has not told them."""
    if not trial.phases:
        return None
    found: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)
    for name, seconds in trial.phases.items():
        if name in _OF_PHASE:
            found[_OF_PHASE[name]] += seconds
    found["rest"] = max(0.0, median_seconds(trial) - sum(found.values()))
    return found


def between_trials(trial: Trial) -> float:
    """Return the standard deviation between this trial and another one of the same, in logarithms."""
    return math.hypot(BETWEEN, _LASTING * _scatter(trial))


def measured_estimate(trials: Sequence[Trial], *, louder: float = 1.0) -> Estimate:
    """Return what a candidate's own trials say, with the interval that a later one lies in.

    Args:
        trials: of the candidate, all of which went well.
        louder: how many times as far apart trials are as each of them shows by itself.
    """
    logs = [math.log(median_seconds(trial)) for trial in trials]
    noise = float(np.mean([noise_of(trial, louder=louder) for trial in trials])) * math.sqrt(
        1 + 1 / len(trials)
    )
    middle = sum(logs) / len(logs)
    phases = phase_seconds(trials[-1]) or {}
    return Estimate(
        seconds=math.exp(middle),
        low=math.exp(middle - Z * noise),
        high=math.exp(middle + Z * noise),
        is_measured=True,
        phases={str(phase): seconds for phase, seconds in phases.items()},
    )


def noise_of(trial: Trial, *, louder: float = 1.0) -> float:
    """Return the standard deviation of the logarithm of what a trial says."""
    by_chance = _MEDIAN * _scatter(trial) / math.sqrt(len(trial.step_seconds))
    return math.hypot(louder * between_trials(trial), by_chance)


def _scatter(trial: Trial) -> float:
    """Return the standard deviation of the logarithms of a trial's steps, by their median distance."""
    logs = np.log(trial.step_seconds)
    return 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
