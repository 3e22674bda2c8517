"""What a step should take by its work alone: operations, bytes and calls, each at a rate of the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deblurkit.config.sections.train import TrainSection
from deblurkit.tuning.recommend.cards import Prior
from deblurkit.tuning.recommend.records import Candidate, Work

Array: TypeAlias = NDArray[np.float64]
Phase: TypeAlias = Literal["forward", "backward", "optimizer", "rest"]

PHASES: tuple[Phase, ...] = ("forward", "backward", "optimizer", "rest")
RATES = ("operations", "bytes", "calls", "optimizer bytes", "optimizer calls", "rest")

_ROOTS = {"forward": (0, 1, 2), "backward": (0, 1, 2), "optimizer": (3, 4), "rest": (5,)}  # RATES of a phase
_OPTIMIZER_BYTES = 28  # a weight: gradient twice (its norm, the step), weight, two states read and written
_OPTIMIZER_CALLS = 100.0
_REST = 0.01  # of forward and backward passes: loading that keeps up, and what no phase covers
_REST_SPREAD = 1.5
_TINY = 1e-12


class Roofline:
    """Logarithms of the seconds of each phase, by the rates that a device reaches.

    A phase takes the sum of what its operations, bytes and calls take. A rate is told as the logarithm of
    how many times as long a thing takes as the prior says: six numbers, all 0 at first. N candidates.
    """

    def __init__(self, candidates: Sequence[Candidate], work: Sequence[Work], prior: Prior) -> None:
        flops = np.array([prior.flops_per_second[product_type(each.config.train)] for each in candidates])
        passes = {
            "forward": np.array([(w.forward_flops, w.forward_bytes, w.forward_calls) for w in work]),
            "backward": np.array([(w.backward_flops, w.backward_bytes, w.backward_calls) for w in work]),
        }
        each = np.column_stack(
            [
                1 / flops,
                np.full_like(flops, 1 / prior.bytes_per_second),
                np.full_like(flops, prior.call_seconds),
            ]
        )
        seconds = {phase: counts.reshape(-1, 3) * each for phase, counts in passes.items()}
        weights = np.array([float(w.weights) for w in work])
        seconds["optimizer"] = np.column_stack(
            [
                weights * _OPTIMIZER_BYTES / prior.bytes_per_second,
                np.full_like(weights, _OPTIMIZER_CALLS * prior.call_seconds),
            ]
        )
        both = seconds["forward"].sum(axis=1) + seconds["backward"].sum(axis=1)
        seconds["rest"] = _REST * both[:, None]
        self._seconds: Mapping[str, Array] = {name: np.maximum(s, _TINY) for name, s in seconds.items()}

    @staticmethod
    def spreads(prior: Prior) -> Array:
        """Return the standard deviation of each rate's logarithm."""
        return np.array([prior.spread] * 5 + [_REST_SPREAD])

    def linear(self, phase: Phase, rates: Array) -> tuple[Array, Array]:
        """Return log seconds at ``rates``, and what they change with each rate: (N,), (N, 6)."""
        roots = list(_ROOTS[phase])
        parts = self._seconds[phase] * np.exp(rates[roots])
        total = parts.sum(axis=1)
        slopes = np.zeros((len(parts), len(RATES)))
        slopes[:, roots] = parts / total[:, None]
        return np.log(total), slopes

    def exact(self, phase: Phase, rates: Array) -> Array:
        """Return log seconds at many draws of the rates: (6, S) -> (N, S)."""
        factors = np.exp(rates[list(_ROOTS[phase])])
        return np.asarray(np.log(self._seconds[phase] @ factors))


def product_type(train: TrainSection) -> str:
    """Return the type of most products, as `Precision` reads it: ``float32``, ``bf16`` or ``fp16``."""
    return train.amp_dtype if train.amp_enabled and train.amp_opt_level != "O0" else "float32"
