"""How long a step of any candidate takes, told from a few trials, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from deblurkit.tuning.recommend.cards import Prior
from deblurkit.tuning.recommend.phase_posterior import PhasePosterior
from deblurkit.tuning.recommend.records import CONFIDENCE, Candidate, Estimate, Trial, Work
from deblurkit.tuning.recommend.roofline import PHASES, Array, Phase
from deblurkit.tuning.recommend.trial_figures import BETWEEN, figures_of, measured_estimate, noise_of

_DRAWS = 1000
_LINK_SPREAD = 0.7  # of the logarithm of what summing gradients takes
_WEIGHT_BYTES = 4
_ENDS = ((1 - CONFIDENCE) / 2, 0.5, (1 + CONFIDENCE) / 2)


class StepModel:
    """Seconds of an optimiser step of each candidate whose work is known.

    Attributes:
        observed_out_of_memory: keys of the candidates that did not fit when they were tried.
    """

    def __init__(self, candidates: Sequence[Candidate], work: Mapping[str, Work], *, prior: Prior) -> None:
        self._candidates = [each for each in candidates if each.key in work]
        self._place = {each.key: place for place, each in enumerate(self._candidates)}
        parts = [
            [1 if phase == "optimizer" else each.accumulation for phase in PHASES]
            for each in self._candidates
        ]
        self._parts = np.array(parts, dtype=np.float64).reshape(-1, len(PHASES))
        works = [work[each.key] for each in self._candidates]
        self._links = np.array(
            [_link_seconds(each, part, prior) for each, part in zip(self._candidates, works, strict=True)]
        )
        self._posterior = PhasePosterior(self._candidates, works, prior) if works else None
        self.fit(())

    def knows(self, candidate: Candidate) -> bool:
        """Return whether there is anything to tell of a candidate."""
        return candidate.key in self._place

    def fit(self, trials: Sequence[Trial]) -> None:
        """Learn from trials: all that there are so far. Interrupted, it knows what it did before."""
        measured: dict[str, list[Trial]] = {}
        for trial in trials:
            if trial.outcome == "measured" and trial.step_seconds and trial.key in self._place:
                measured.setdefault(trial.key, []).append(trial)
        if self._posterior is not None:
            shares = self._expected_shares(self._posterior)
            self._posterior.see(
                [
                    (place, figures_of(trial, self._candidates[place], shares[place]))
                    for key, each in measured.items()
                    for place, trial in ((self._place[key], trial) for trial in each)
                ]
            )
        self.observed_out_of_memory = {each.key for each in trials if each.outcome == "out of memory"}
        self._trials = measured
        self._drawn: tuple[Array, ...] | None = None
        self._estimates: dict[str, Estimate] = {}

    def samples(self, candidates: Sequence[Candidate], count: int, seed: int) -> Array:
        """Return joint draws of the seconds of a step, without a measurement's noise: (count, candidates)."""
        if self._posterior is None:
            raise KeyError("no candidate's work is known")
        places = [self._place[each.key] for each in candidates]
        rng = np.random.default_rng(seed)
        return self._steps(self._posterior.draw(count, rng), places, rng).T

    def estimate(self, candidate: Candidate) -> Estimate:
        """Return the seconds of a candidate's step: its own trials', or what the model tells.

        Its interval is that of a later measurement.

        Raises:
            KeyError: where the model does not know it.
        """
        place = self._place[candidate.key]
        if candidate.key not in self._estimates:
            self._estimates[candidate.key] = self._estimated(candidate, place)
        return self._estimates[candidate.key]

    def believed(self, candidate: Candidate) -> float:
        """Return the seconds of a step by all trials together: a lucky one counts for less than by itself.

        Raises:
            KeyError: where the model does not know it.
        """
        draws = self._draws()
        return float(np.median(self._steps(draws, [self._place[candidate.key]], np.random.default_rng(0))))

    def _draws(self) -> tuple[Array, ...]:
        assert self._posterior is not None
        if self._drawn is None:
            self._drawn = self._posterior.draw(_DRAWS, np.random.default_rng(0))
        return self._drawn

    def _estimated(self, candidate: Candidate, place: int) -> Estimate:
        assert self._posterior is not None
        if candidate.key in self._trials:
            return measured_estimate(self._trials[candidate.key], louder=self._posterior.louder)
        draws, rng = self._draws(), np.random.default_rng(place)
        noise = rng.normal(0, self._noise(self._posterior.louder), _DRAWS)
        later = self._steps(draws, [place], rng)[0] * np.exp(noise)
        low, middle, high = (float(each) for each in np.quantile(later, _ENDS))
        return Estimate(middle, low, high, False, self._phases(draws, place, middle))

    def _noise(self, louder: float) -> float:
        """Return the standard deviation of what a later trial says."""
        trials = [trial for each in self._trials.values() for trial in each]
        return float(np.median([noise_of(trial, louder=louder) for trial in trials] or [louder * BETWEEN]))

    def _steps(self, draws: Sequence[Array], places: Sequence[int], rng: np.random.Generator) -> Array:
        """Return the seconds of whole steps by draws of their phases: (places, draws)."""
        parts = self._parts[places]
        total = sum(
            (part[:, None] * np.exp(each[places]) for part, each in zip(parts.T, draws, strict=True)),
            start=np.zeros((len(places), draws[0].shape[1])),
        )
        slower = np.exp(_LINK_SPREAD * rng.standard_normal(total.shape[1]))
        return np.asarray(total + self._links[places][:, None] * slower)

    def _phases(self, draws: Sequence[Array], place: int, seconds: float) -> dict[str, float]:
        """Return the seconds of a candidate's step by phase, their sum being ``seconds``."""
        middles = [math.exp(float(np.median(each[place]))) for each in draws]
        found = {
            str(phase): part * middle
            for phase, part, middle in zip(PHASES, self._parts[place], middles, strict=True)
        }
        if self._links[place]:
            found["all_reduce"] = float(self._links[place])
        share = seconds / sum(found.values())
        return {phase: float(share * each) for phase, each in found.items()}

    def _expected_shares(self, posterior: PhasePosterior) -> list[dict[Phase, float]]:
        """Return the share of each phase in a step, by what is believed beforehand, for every candidate."""
        seconds = self._parts * posterior.expected()
        shares = seconds / seconds.sum(axis=1, keepdims=True)
        return [dict(zip(PHASES, map(float, row), strict=True)) for row in shares]


def _link_seconds(candidate: Candidate, work: Work, prior: Prior) -> float:
    """Return what summing the gradients of all devices in a ring should take [s]; 0 on one device."""
    sent = 2 * (candidate.devices - 1) / candidate.devices * _WEIGHT_BYTES * work.weights
    return sent / prior.link_bytes_per_second
