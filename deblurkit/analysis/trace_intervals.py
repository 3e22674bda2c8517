"""Sets of intervals on a line, as arrays.

A set is an (N, 2) array of starts and ends; "disjoint" means sorted, without overlap and without empty ones.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
EMPTY: Floats = np.empty((0, 2))


def union(*parts: Floats) -> Floats:
    """Return the disjoint intervals that cover what any of ``parts`` covers; those that touch become one."""
    spans = np.concatenate(parts) if parts else EMPTY
    spans = spans[spans[:, 1] > spans[:, 0]]
    if not len(spans):
        return EMPTY
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    ends = np.maximum.accumulate(spans[:, 1])
    firsts = np.flatnonzero(np.append(True, spans[1:, 0] > ends[:-1]))
    return np.column_stack((spans[firsts, 0], ends[np.append(firsts[1:] - 1, len(spans) - 1)]))


def overlap(one: Floats, other: Floats) -> Floats:
    """Return the disjoint intervals that two disjoint sets have in common."""
    edges = np.concatenate((one[:, 0], other[:, 0], one[:, 1], other[:, 1]))
    rises = np.repeat((1, -1), len(one) + len(other))
    order = np.lexsort((rises, edges))  # where one ends as another begins they have nothing in common
    edges = edges[order]
    both = np.flatnonzero(np.cumsum(rises[order]) == 2)
    return np.column_stack((edges[both], edges[both + 1])) if len(both) else EMPTY


def gaps(spans: Floats) -> Floats:
    """Return what a disjoint set leaves uncovered, from minus infinity to infinity."""
    return np.column_stack((np.append(-np.inf, spans[:, 1]), np.append(spans[:, 0], np.inf)))


def without(spans: Floats, taken: Floats) -> Floats:
    """Return what of a disjoint set another one leaves uncovered."""
    return overlap(spans, gaps(taken))


def length(spans: Floats) -> float:
    """Return the summed length of disjoint intervals."""
    return float((spans[:, 1] - spans[:, 0]).sum())


def length_before(spans: Floats, times: Floats) -> Floats:
    """Return for each of ``times`` the length that a disjoint set covers before it."""
    whole = np.append(0.0, np.cumsum(spans[:, 1] - spans[:, 0]))
    begun = np.searchsorted(spans[:, 0], times, side="right")
    current = np.maximum(begun - 1, 0)
    beyond = np.maximum(spans[current, 1] - times, 0.0) if len(spans) else np.zeros(len(times))
    return whole[begun] - np.where(begun > 0, beyond, 0.0)


def length_within(spans: Floats, bounds: Floats) -> Floats:
    """Return for each row of ``bounds`` the length that a disjoint set covers inside it."""
    return length_before(spans, bounds[:, 1]) - length_before(spans, bounds[:, 0])


def outermost(spans: Floats, lanes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return which of nested intervals lie inside no other one of their lane, by lane and then by start.

    Args:
        spans: any intervals; of two equal ones of a lane the first counts as the outer one.
        lanes: of each; those of different lanes do not contain each other.
    """
    order = np.lexsort((-spans[:, 1], spans[:, 0], lanes))
    ends, lane = spans[order, 1], lanes[order]
    keep = np.ones(len(order), dtype=bool)
    for first, last in _runs(lane):
        before = np.maximum.accumulate(ends[first:last])[:-1]
        keep[first + 1 : last] = ends[first + 1 : last] > before
    return order[keep]


def _runs(values: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the first index of each run of equal values, and the one behind its last."""
    if not len(values):
        return []
    firsts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(zip(firsts[:-1], firsts[1:], strict=True))
