"""What choices change beyond the work that was counted: a Gaussian process, written as weights of features.

Levels of an axis are alike or not by a matrix; its root gives each level a row of features, so that
independent weights on these give just that likeness. Batch sizes are alike by the ratio of their sizes;
levels of other axes are not. Pairs of axes have features too: what one choice changes may depend on another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deblurkit.tuning.recommend.records import Candidate
from deblurkit.tuning.recommend.roofline import Array, Phase

BATCH = "batch"
_NOT_OF_A_MICRO_STEP = frozenset({BATCH, "devices"})  # the batch is taken as a number

# Standard deviations of the logarithm of seconds, by what they are of; wider by axis where `Prior` says so.
_MAIN, _PAIR = 0.10, 0.04
_BATCH_SPREAD, _BATCH_REACH = 0.15, 1.5  # the reach in doublings
_OPTIMIZER_SPREAD = 0.7
_REST_SPREAD = 0.3
_SHARED = math.sqrt(0.5)  # of what forward and backward passes have in common; the other half is of each

_OF_OPTIMIZER = frozenset({"optimizer", "precision", "compile"})


@dataclass(frozen=True)
class _Block:
    """Features (N, F) whose weights have standard deviations (F,), and the phases that they are part of."""

    features: Array
    spreads: Array
    phases: tuple[Phase, ...]


class ChoiceEffects:
    """Features of N candidates for each phase; W weights in all."""

    def __init__(self, candidates: Sequence[Candidate], axis_spread: Mapping[str, float]) -> None:
        levels = _levels_of(candidates)
        spreads = {axis: axis_spread.get(axis, _MAIN) for axis in levels}
        in_passes = {axis: each for axis, each in levels.items() if axis != "optimizer"}
        in_optimizer = {axis: each for axis, each in levels.items() if axis in _OF_OPTIMIZER}
        self._blocks = list(_blocks(in_passes, spreads, in_optimizer, len(candidates)))
        ends = np.cumsum([0, *(len(block.spreads) for block in self._blocks)])
        self._slices = [slice(a, b) for a, b in itertools.pairwise(ends)]
        self.spreads: Array = np.concatenate([block.spreads for block in self._blocks])  # (W,)

    def design(self, phase: Phase, rows: Sequence[int]) -> Array:
        """Return the features of some candidates in a phase: (rows, W)."""
        found = np.zeros((len(rows), len(self.spreads)))
        for block, part in zip(self._blocks, self._slices, strict=True):
            if phase in block.phases:
                found[:, part] = block.features[list(rows)]
        return found

    def apply(self, phase: Phase, weights: Array) -> Array:
        """Return what weights (W, S) change the log seconds of a phase by: (N, S)."""
        parts = zip(self._blocks, self._slices, strict=True)
        return sum(
            (block.features @ weights[part] for block, part in parts if phase in block.phases),
            start=np.zeros((len(self._blocks[0].features), weights.shape[1])),
        )


def class_of(candidate: Candidate) -> tuple[object, ...]:
    """Return what the micro-step of a candidate depends on: others of its class only take more or fewer."""
    choices = {axis: word for axis, word in candidate.choices.items() if axis not in _NOT_OF_A_MICRO_STEP}
    return (candidate.batch_size, *sorted(choices.items()))


def _levels_of(candidates: Sequence[Candidate]) -> dict[str, Array]:
    """Return the features of the levels that candidates have on each axis: (N, L)."""
    axes = {axis: None for each in candidates for axis in each.choices if axis not in _NOT_OF_A_MICRO_STEP}
    found = {BATCH: _batch_levels([each.batch_size for each in candidates])}
    for axis in axes:
        words = [each.choices.get(axis, "") for each in candidates]
        known = list(dict.fromkeys(words))
        found[axis] = np.eye(len(known))[[known.index(word) for word in words]]
    return found


def _batch_levels(sizes: Sequence[int]) -> Array:
    known = sorted(set(sizes))
    doublings = np.log2(np.array(known, dtype=np.float64))
    alike = np.exp(-0.5 * ((doublings[:, None] - doublings) / _BATCH_REACH) ** 2)
    root = np.linalg.cholesky(alike + 1e-9 * np.eye(len(known)))
    return np.asarray(root[[known.index(size) for size in sizes]])


def _blocks(
    in_passes: Mapping[str, Array],
    spreads: Mapping[str, float],
    in_optimizer: Mapping[str, Array],
    count: int,
) -> Iterator[_Block]:
    features, widths = _main_and_pairs(in_passes, {**spreads, BATCH: _BATCH_SPREAD}, count)
    yield _Block(features, _SHARED * widths, ("forward", "backward"))
    yield _Block(features, _SHARED * widths, ("forward",))
    yield _Block(features, _SHARED * widths, ("backward",))
    wide = {axis: max(_OPTIMIZER_SPREAD, spreads[axis]) for axis in in_optimizer}
    yield _Block(*_main_and_pairs(in_optimizer, wide, count), ("optimizer",))
    rest = {BATCH: in_passes[BATCH]}
    yield _Block(*_main_and_pairs(rest, {BATCH: _REST_SPREAD}, count), ("rest",))


def _main_and_pairs(
    levels: Mapping[str, Array], spreads: Mapping[str, float], count: int
) -> tuple[Array, Array]:
    """Return the features of each axis and of each pair of axes, and their standard deviations."""
    parts = [(each, spreads[axis]) for axis, each in levels.items()]
    parts += [
        (_products(one, other), _PAIR) for one, other in itertools.combinations(list(levels.values()), 2)
    ]
    features = np.hstack([np.zeros((count, 0)), *(each for each, _ in parts)])
    widths = np.concatenate([np.zeros(0), *(np.full(each.shape[1], width) for each, width in parts)])
    return features, widths


def _products(one: Array, other: Array) -> Array:
    return (one[:, :, None] * other[:, None, :]).reshape(len(one), -1)
