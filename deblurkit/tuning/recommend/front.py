"""Rows picked out of those of a search: the front of memory against throughput, the path to the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deblurkit.tuning.recommend.records import Row


def is_usable(row: Row) -> bool:
    """Return whether a row could be recommended: it fits, something is known of it, and no trial failed."""
    has_failed = row.trial is not None and row.trial.outcome != "measured"
    return row.fits and row.estimate is not None and not has_failed


def rate_of(row: Row) -> float:
    """Return the samples a second of a row; 0 where nothing tells."""
    return row.samples_per_second or 0.0


def in_order(rows: Sequence[Row], best: Row | None) -> tuple[Row, ...]:
    """Return the best row, then the others that are usable, fastest first, then the rest likewise."""
    return tuple(sorted(rows, key=lambda row: (not _is(row, best), not is_usable(row), -rate_of(row))))


def pareto_front(rows: Sequence[Row], best: Row | None) -> tuple[Row, ...]:
    """Return the usable rows that no other beats in both memory and throughput, least memory first.

    Of as many devices as the best has. Rows that were not tried and are only said to be faster than the best
    are left out: they are not told apart from it.
    """
    if best is None:
        return ()
    known = [
        (row.peak_bytes, -rate_of(row), number, row)
        for number, row in enumerate(rows)
        if row.peak_bytes is not None
        and is_usable(row)
        and row.candidate.devices == best.candidate.devices
        and (rate_of(row) <= rate_of(best) or row.trial is not None)
    ]
    front: list[Row] = []
    for *_, row in sorted(known):
        if not front or rate_of(row) > rate_of(front[-1]):
            front.append(row)
    return tuple(front)


def path_between(rows: Sequence[Row], start: Row, best: Row | None) -> tuple[Row, ...]:
    """Return rows from ``start`` to ``best`` that change one choice after the other, the largest gain first.

    A row in between that fits goes before one that does not. Where the space has none, the path jumps.
    Without a best it is the start alone.
    """
    if best is None:
        return (start,)
    by_choices = {_choices(row, row.candidate.choices): row for row in rows}
    path, choices = [start], dict(start.candidate.choices)
    goal = best.candidate.choices
    while left := [axis for axis in goal if choices.get(axis) != goal[axis]]:
        steps = {axis: by_choices.get(_choices(best, {**choices, axis: goal[axis]})) for axis in left}
        found = {axis: row for axis, row in steps.items() if row is not None}
        if not found:
            break
        axis = max(found, key=lambda each: (is_usable(found[each]), rate_of(found[each])))
        choices[axis] = goal[axis]
        path.append(found[axis])
    return tuple(path) if _is(path[-1], best) else (*path, best)


def _choices(row: Row, choices: Mapping[str, str]) -> tuple[object, ...]:
    return (row.candidate.devices, *sorted(choices.items()))


def _is(row: Row, other: Row | None) -> bool:
    return other is not None and row.candidate.key == other.candidate.key
