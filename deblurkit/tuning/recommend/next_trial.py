"""Which candidate to try next, by joint draws of what all of them may take: where a trial tells most.

Two things count. Expected improvement: how much faster than the best so far it may turn out (Jones, Schonlau
and Welch 1998). Knowledge gradient: how much better the candidate believed fastest would be known after it,
which may be another one (Frazier, Powell and Dayanik 2009).
"""

from __future__ import annotations

import math

import numpy as np

from deblurkit.tuning.recommend.roofline import Array

_POINTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)


def gains(logs: Array, *, best: int | None, noise: float, may_go_on: bool) -> Array:
    """Return what trying each candidate is worth, in logarithms of seconds: (candidates,).

    Args:
        logs: draws of the logarithm of seconds for a clip, (draws, candidates).
        best: place of the best that was tried; None: every one is compared with the middle of all.
        noise: standard deviation of a trial.
        may_go_on: whether what a trial tells of others can be used.
    """
    reference = np.median(logs, axis=1) if best is None else logs[:, best]
    improvement = np.maximum(0, reference[:, None] - logs).mean(axis=0)
    return improvement + _knowledge(logs, noise) if may_go_on else improvement


def chance_of_faster(logs: Array, best: int, *, by: float) -> float:
    """Return how likely any candidate takes less than ``1 / (1 + by)`` of the best's seconds."""
    faster = logs < (logs[:, best] - math.log1p(by))[:, None]
    return float(faster.any(axis=1).mean())


def _knowledge(logs: Array, noise: float) -> Array:
    """Return how much less the candidate believed fastest is expected to take after a trial of each."""
    means = logs.mean(axis=0)
    covariance = np.atleast_2d(np.cov(logs, rowvar=False))
    moves = covariance / np.sqrt(np.diag(covariance) + noise**2)  # (candidates, tried)
    fastest = np.zeros(len(means))
    for point, weight in zip(_POINTS, _WEIGHTS / _WEIGHTS.sum(), strict=True):
        fastest += weight * (means[:, None] + point * moves).min(axis=0)
    return np.maximum(0, means.min() - fastest)
