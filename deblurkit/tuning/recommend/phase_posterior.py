"""The joint distribution of the seconds of all phases of all candidates, given a few trials.

The logarithm of a phase's seconds is what its work should take (`roofline`), at rates of the device that
are learnt, and what the choices change beyond that (`choice_effects`), and something of each candidate's
own. All of it is normal around the best rates, so that a few trials give a joint distribution in closed form
(Rasmussen and Williams, Gaussian Processes for Machine Learning, sec. 2.7); draws of it are made by
Matheron's rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deblurkit.tuning.recommend.cards import Prior
from deblurkit.tuning.recommend.choice_effects import ChoiceEffects, class_of
from deblurkit.tuning.recommend.records import Candidate, Work
from deblurkit.tuning.recommend.roofline import PHASES, RATES, Array, Phase, Roofline
from deblurkit.tuning.recommend.trial_figures import Figures

_OWN = 0.03  # standard deviation of what a candidate has of its own, in logarithms
_SCALES = (0.6, 1.0, 1.8)  # of all that choices change
_NOISES = (1.0, 1.6)  # of what trials as a whole differ by
_LIKELY = np.outer((0.25, 0.5, 0.25), (0.6, 0.4)).ravel()  # each pair of these, beforehand
_ROUNDS = 12  # of finding the rates
_PARAMETERS = len(RATES)
_BLOCK = len(PHASES)
_JITTER = 1e-8


@dataclass(frozen=True)
class _Seen:
    """What trials have shown: O numbers, a trial's phases one after the other.

    `places` those of the candidates tried; `effects` (O, weights of choices) the features of the numbers;
    `alike` (O, O) the covariance that choices and what candidates have of their own give them; `own_noise`
    and `shared_noise` (O, O) that of their noise.
    """

    places: Sequence[int]
    logs: Array
    effects: Array
    alike: Array
    own_noise: Array
    shared_noise: Array

    def noise(self, louder: float) -> Array:
        """Return the covariance of the noise, where trials as a whole are so much louder."""
        return self.own_noise + louder**2 * self.shared_noise


@dataclass(frozen=True)
class _Fit:
    """The distribution at the rates that explain best what was seen, for one scale and one loudness.

    Of O numbers seen of candidates at `places`, with W weights (rates first): `design` (O, W), `noise`
    (O, O) its covariance, `root` (O, O) of the covariance of all, `misses` (O,) from what is believed
    beforehand.
    """

    places: Sequence[int]
    rates: Array
    spreads: Array
    own_spread: float
    noise: Array
    design: Array
    root: Array
    misses: Array

    @property
    def evidence(self) -> float:
        """Logarithm of how likely what was seen is, but for a constant."""
        return -0.5 * float(self.misses @ _solved(self.root, self.misses)) - float(
            np.log(np.diag(self.root)).sum()
        )


@dataclass(frozen=True)
class _Known:
    """The fit to what was seen for each scale and loudness, and how likely each of these is."""

    fits: Sequence[_Fit]
    shares: Array


class PhasePosterior:
    """Logarithms of seconds of N candidates in each of PHASES, of a micro-step (optimizer: of a step)."""

    def __init__(self, candidates: Sequence[Candidate], work: Sequence[Work], prior: Prior) -> None:
        self._prior = prior
        self._roofline = Roofline(candidates, work, prior)
        self._effects = ChoiceEffects(candidates, prior.axis_spread)
        numbers: dict[object, int] = {}
        self._class = np.array(
            [numbers.setdefault(class_of(each), len(numbers)) for each in candidates], dtype=np.intp
        )
        self.see([])

    def expected(self) -> Array:
        """Return the seconds that are believed before any trial: (N, phases)."""
        means = [self._roofline.linear(phase, np.zeros(_PARAMETERS))[0] for phase in PHASES]
        return np.exp(np.stack(means, axis=1))

    def see(self, seen: Sequence[tuple[int, Figures]]) -> None:
        """Learn from the figures of trials, each of the candidate at a place, and forget the earlier ones.

        Where this is interrupted, what was known before stays.
        """
        numbers = self._seen_in([place for place, _ in seen], [figures for _, figures in seen])
        fits = [self._fitted(numbers, scale, louder) for scale in _SCALES for louder in _NOISES]
        logs = np.array([fit.evidence for fit in fits]) + np.log(_LIKELY)
        shares = np.exp(logs - logs.max())
        self._known = _Known(fits, shares / shares.sum())

    @property
    def louder(self) -> float:
        """How many times as far apart trials of one configuration are as each of them shows by itself."""
        return float(self._known.shares @ np.tile(_NOISES, len(_SCALES)))

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Array, ...]:
        """Return joint draws, one array (N, count) for each of PHASES."""
        known, counts = self._known, _divided(count, self._known.shares)
        parts = [self._drawn(fit, each, rng) for fit, each in zip(known.fits, counts, strict=True) if each]
        return tuple(np.hstack([part[number] for part in parts]) for number in range(_BLOCK))

    def _drawn(self, fit: _Fit, count: int, rng: np.random.Generator) -> list[Array]:
        weights = fit.spreads[:, None] * rng.standard_normal((len(fit.spreads), count))
        classes = int(self._class.max()) + 1
        own = fit.own_spread * rng.standard_normal((_BLOCK, classes, count))
        if fit.places:
            self._condition(fit, weights, own, rng)
        rates, changes = weights[:_PARAMETERS], weights[_PARAMETERS:]
        return [
            self._of_work(phase, fit, rates) + self._effects.apply(phase, changes) + own[number][self._class]
            for number, phase in enumerate(PHASES)
        ]

    def _of_work(self, phase: Phase, fit: _Fit, rates: Array) -> Array:
        """Return what the work of a phase takes at draws of the rates: (N, draws)."""
        if not fit.places:
            return self._roofline.exact(phase, rates)
        means, slopes = self._roofline.linear(phase, fit.rates)  # what was seen was conditioned on likewise
        return np.asarray(means[:, None] + slopes @ (rates - fit.rates[:, None]))

    def _condition(self, fit: _Fit, weights: Array, own: Array, rng: np.random.Generator) -> None:
        """Turn draws of what is believed beforehand into draws of what is after the trials, in place."""
        cells = [(number, self._class[place]) for place in fit.places for number in range(_BLOCK)]
        seen = fit.design @ weights + np.array([own[cell] for cell in cells])
        seen += np.linalg.cholesky(fit.noise) @ rng.standard_normal(seen.shape)
        pulls = _solved(fit.root, fit.misses[:, None] - seen)
        weights += (fit.spreads**2)[:, None] * (fit.design.T @ pulls)
        for cell, pull in zip(cells, pulls, strict=True):
            own[cell] += fit.own_spread**2 * pull

    def _fitted(self, seen: _Seen, scale: float, louder: float) -> _Fit:
        """Return the distribution with the rates that explain the trials best: Gauss-Newton, half steps."""
        spreads = np.concatenate([Roofline.spreads(self._prior), scale * self._effects.spreads])
        fit = self._at(seen, np.zeros(_PARAMETERS), spreads, scale, louder)
        for _ in range(_ROUNDS if seen.places else 0):
            slopes = fit.design[:, :_PARAMETERS]
            best = spreads[:_PARAMETERS] ** 2 * (slopes.T @ _solved(fit.root, fit.misses))
            fit = self._at(seen, (fit.rates + best) / 2, spreads, scale, louder)
        return fit

    def _at(self, seen: _Seen, rates: Array, spreads: Array, scale: float, louder: float) -> _Fit:
        """Return the distribution linear around ``rates``."""
        means, slopes = self._linear(seen.places, rates)
        noise = seen.noise(louder)
        by_rates = (slopes * spreads[:_PARAMETERS] ** 2) @ slopes.T
        covariance = by_rates + scale**2 * seen.alike + noise
        return _Fit(
            places=seen.places,
            rates=rates,
            spreads=spreads,
            own_spread=scale * _OWN,
            noise=noise,
            design=np.hstack([slopes, seen.effects]),
            root=np.asarray(np.linalg.cholesky(covariance), dtype=np.float64),
            misses=seen.logs - (means - slopes @ rates),
        )

    def _seen_in(self, places: Sequence[int], figures: Sequence[Figures]) -> _Seen:
        effects = self._effects_seen(places)
        own, shared = self._noises(figures)
        return _Seen(
            places=places,
            logs=np.array([each.logs for each in figures]).ravel(),
            effects=effects,
            alike=(effects * self._effects.spreads**2) @ effects.T + _OWN**2 * self._likeness(places),
            own_noise=own,
            shared_noise=shared,
        )

    def _effects_seen(self, places: Sequence[int]) -> Array:
        """Return the features of the numbers seen: (O, weights of choices)."""
        of_phase = [self._effects.design(phase, places) for phase in PHASES]
        return np.stack(of_phase, axis=1).reshape(-1, len(self._effects.spreads))

    def _linear(self, places: Sequence[int], rates: Array) -> tuple[Array, Array]:
        """Return what the work of the numbers seen should take, and its slopes: (O,), (O, rates)."""
        of_phase = [self._roofline.linear(phase, rates) for phase in PHASES]
        means = np.stack([means[places] for means, _ in of_phase], axis=1)
        slopes = np.stack([slopes[places] for _, slopes in of_phase], axis=1)
        return means.ravel(), slopes.reshape(-1, _PARAMETERS)

    def _likeness(self, places: Sequence[int]) -> Array:
        """Return 1 where two numbers seen are of the same phase and of candidates of the same class."""
        classes = np.repeat(self._class[places], _BLOCK)
        phases = np.tile(np.arange(_BLOCK), len(places))
        alike = (classes[:, None] == classes) & (phases[:, None] == phases)
        return alike.astype(np.float64)

    def _noises(self, figures: Sequence[Figures]) -> tuple[Array, Array]:
        """Return the covariance of noise of each number's own, and of that which a trial's phases share."""
        own = np.array([each.own_noise**2 + _JITTER for each in figures]).ravel()
        shared = np.zeros((len(own), len(own)))
        for number, each in enumerate(figures):
            part = slice(_BLOCK * number, _BLOCK * (number + 1))
            shared[part, part] = each.shared_noise**2
        return np.diag(own), shared


def _solved(root: Array, values: Array) -> Array:
    """Return K⁻¹ values of a covariance K = root rootᵀ."""
    return np.asarray(np.linalg.solve(root.T, np.linalg.solve(root, values)))


def _divided(count: int, shares: Array) -> list[int]:
    """Return whole numbers whose sum is ``count``, in about these shares."""
    ends = np.round(np.cumsum(shares) * count).astype(int)
    return [int(each) for each in np.diff(np.concatenate([[0], ends]))]
