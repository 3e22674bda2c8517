"""From the rows that a log prints to a true partition of the step: every millisecond in one place.

Old logs print a forward pass and, beside it, the parts that it contains, and add all of them to a "Total".
Here the parts go back inside: by name where the names are known, by value where a row keeps to the sum of
others. Nothing moves where it would make the parts longer than the whole.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from deblurkit.analysis.tables import RunLog
from deblurkit.timing.partition import CONTAINERS, known_contents, role_of
from deblurkit.timing.records import UNACCOUNTED
from deblurkit.units import format_ms, plural

_LEEWAY = 0.02  # how far parts may exceed their whole, and a sum its total
_EXACT = 0.005
_NEARLY_ALL = 0.95
_ENOUGH_STEPS = 3
_OVERLAP = 0.01
_LARGEST_SUM = 3
_MOST_ROWS = 12
_MOST_STEPS = 2_000
_FEED = ("data", "transfer")
REST = "compute"  # what is left of a step where only the wait for data is told apart


@dataclass(frozen=True)
class Partition:
    """The steps of a log with every row in its place.

    Attributes:
        times: one row per step, one column per full name, inclusive milliseconds; NaN is not measured.
        step_ms: length of each step: its wall time where that is known, else the sum of its top-level rows,
            else (where no step has more of them than the wait for data) what the log calls its total; NaN
            unknown.
        unaccounted_ms: wall time of each step that no top-level row covers; None where the log has no wall
            time to compare with.
        notes: what was moved and what cannot be known, a sentence each.
    """

    times: pd.DataFrame
    step_ms: pd.Series[float]
    unaccounted_ms: pd.Series[float] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Move:
    """Top-level rows that belong inside another one, and how that is known."""

    parent: str
    children: tuple[str, ...]
    reason: str


def top_level(times: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of ``times`` that lie inside no other."""
    return times[[name for name in times.columns if "/" not in name]]


def repair(log: RunLog) -> Partition:
    """Return the steps of ``log`` as a partition: rows nested where they were logged side by side.

    Names of the seed's scripts are known. Any other top-level row is taken to contain a few others if it
    keeps within 2 % to their sum in 95 of 100 steps (within 0.5 % where there are fewer than three steps),
    and only in logs without wall time or whose rows exceed it. Standard phases never contain each other.
    """
    own_total, wall_known = log.steps["total_ms"], log.steps["wall_known"]
    times = with_parents(_without_gaps(log.times) if wall_known.any() else log.times)
    notes: list[str] = []
    moves: list[Move] = []
    for containers, contents in CONTAINERS:
        for move in _known_moves(times, containers, contents):
            if _fits(times, move):
                times = _nest(times, move)
                moves.append(move)
            else:
                notes.append(_refusal(move))
    if not wall_known.any() or _overlap(times, own_total, wall_known) > _OVERLAP:
        while (found := _sum_move(times)) is not None:
            times = _nest(times, found)
            moves.append(found)
    times = _with_rest_of_total(times, own_total, wall_known)
    sums = top_level(times).sum(axis=1)
    step_ms = sums.where(~wall_known, np.maximum(own_total, sums))
    by_rows = _tells_length(times)
    step_ms = step_ms.where(wall_known | by_rows, np.nan if by_rows.any() else own_total)
    unaccounted = (step_ms - sums).clip(lower=0.0) if wall_known.any() else None
    notes = [_moved(move) for move in moves] + notes
    notes += _about_totals(log, step_ms, sums, moved=bool(moves))
    return Partition(times, step_ms, unaccounted, tuple(notes))


def with_parents(times: pd.DataFrame) -> pd.DataFrame:
    """Return ``times`` with each parent filled in, where it was not measured, by the sum of its children."""
    parents = {name[: match.start()] for name in times.columns for match in re.finditer("/", name)}
    completed = {str(name): times[name] for name in times.columns}
    for parent in sorted(parents, key=lambda path: path.count("/"), reverse=True):
        children = [values for name, values in completed.items() if name.rpartition("/")[0] == parent]
        total = pd.concat(children, axis=1).sum(axis=1, min_count=1)
        completed[parent] = completed[parent].fillna(total) if parent in completed else total
    return pd.DataFrame(completed, index=times.index, dtype="float64")


def _tells_length(times: pd.DataFrame) -> pd.Series[bool]:
    """Return in which steps rows were measured that can make up a step: more than the wait for data."""
    rows = [name for name in top_level(times).columns if role_of(str(name)) not in _FEED]
    return times[rows].notna().any(axis=1)


def _with_rest_of_total(
    times: pd.DataFrame, own_total: pd.Series[float], wall_known: pd.Series[bool]
) -> pd.DataFrame:
    """Return ``times`` with a row for what the wait for data leaves of totals that are all that is known."""
    waits = top_level(times).sum(axis=1, min_count=1)
    alone = ~wall_known & own_total.notna()
    if _tells_length(times).any() or not waits[alone].notna().any():
        return times
    return times.assign(**{REST: (own_total - waits.fillna(0.0)).clip(lower=0.0).where(alone)})


def _without_gaps(times: pd.DataFrame) -> pd.DataFrame:
    """Return ``times`` without what the log calls unaccounted: it is worked out again after the repair."""
    return times[[name for name in times.columns if name.partition("/")[0] != UNACCOUNTED]]


def _known_moves(times: pd.DataFrame, containers: frozenset[str], contents: frozenset[str]) -> Iterator[Move]:
    known = known_contents([str(name) for name in top_level(times).columns], containers, contents)
    if known is not None:
        yield Move(*known, "known by name")


def _fits(times: pd.DataFrame, move: Move) -> bool:
    """Return whether the children, with those already there, stay within the parent, in sum and mostly."""
    if any(f"{move.parent}/{child}" in times.columns for child in move.children):
        return False
    inside = [name for name in times.columns if name.rpartition("/")[0] == move.parent]
    parts = times[[*inside, *move.children]].sum(axis=1)
    whole = times[move.parent].fillna(0.0)
    measured = times[move.parent].notna()
    if not measured.any():
        return False
    within = parts[measured] <= whole[measured] * (1 + _LEEWAY)
    return bool(within.mean() >= _NEARLY_ALL and parts.sum() <= whole.sum() * (1 + _LEEWAY))


def _nest(times: pd.DataFrame, move: Move) -> pd.DataFrame:
    def moved(name: str) -> str:
        return f"{move.parent}/{name}" if name.partition("/")[0] in move.children else name

    return with_parents(times.rename(columns=moved))


def _sum_move(times: pd.DataFrame) -> Move | None:
    """Return the shortest top-level row that keeps to the sum of others; None if there is none."""
    every = max(1, -(-len(times) // _MOST_STEPS))
    tops = top_level(times).iloc[::every].fillna(0.0)
    means = tops.mean().sort_values()
    names = [str(name) for name, mean in means.items() if mean > 0]
    values = {name: tops[name].to_numpy() for name in names}
    enough = len(tops) >= _ENOUGH_STEPS
    for parent in names if enough else names[-1:]:
        for children in _candidates(parent, names):
            parts = np.sum([values[child] for child in children], axis=0)
            move = Move(parent, children, "their times add up to it")
            if _keeps_to(values[parent], parts, enough=enough) and _fits(times, move):
                return move
    return None


def _candidates(parent: str, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield sets of rows to try as parts of ``parent``: all the others first, then twos and threes."""
    plain = [name for name in names if name != parent and role_of(name) is None]
    others = plain if role_of(parent) is not None else [name for name in names if name != parent]
    if len(others) > 1 and len(others) == len(names) - 1:
        yield tuple(others)
    shorter = [name for name in plain if names.index(name) < names.index(parent)][-_MOST_ROWS:]
    for size in range(2, _LARGEST_SUM + 1):
        yield from itertools.combinations(reversed(shorter), size)


def _keeps_to(whole: npt.NDArray[np.float64], parts: npt.NDArray[np.float64], *, enough: bool) -> bool:
    """Return whether ``whole`` is the sum ``parts`` step by step, more than two steady rows are by chance."""
    present = whole > 0
    whole, parts = whole[present], parts[present]
    if not len(whole):
        return False
    error = np.abs(whole - parts)
    if not enough:
        return bool(np.all(error <= _EXACT * whole))
    if np.mean(error <= _LEEWAY * whole) < _NEARLY_ALL:
        return False
    close = abs(whole.sum() - parts.sum()) <= _EXACT * whole.sum()
    return bool(close or np.std(whole - parts) <= 0.5 * np.std(whole))


def _overlap(times: pd.DataFrame, own_total: pd.Series[float], wall_known: pd.Series[bool]) -> float:
    """Return by what share the top-level rows exceed the wall time, over the steps that have one."""
    wall = float(own_total[wall_known].sum())
    rows = float(top_level(times)[wall_known].sum().sum())
    return rows / wall - 1 if wall > 0 else float(rows > 0)


def _about_totals(
    log: RunLog, step_ms: pd.Series[float], sums: pd.Series[float], *, moved: bool
) -> list[str]:
    own_total, wall_known = log.steps["total_ms"], log.steps["wall_known"]
    notes = []
    claimed = own_total[~wall_known & own_total.notna()]
    repaired = step_ms[claimed.index]
    if len(claimed) and abs(claimed.sum() - repaired.sum()) > _OVERLAP * repaired.sum():
        why = "with each time counted once it is" if moved else "its rows add up to"
        notes.append(
            f"The log's own total is {format_ms(float(claimed.mean()))} a step; {why}"
            f" {format_ms(float(repaired.mean()))}."
        )
    if not wall_known.any():
        if step_ms.notna().any():
            notes.append(
                "The log holds no wall time: shares are of the times it lists, and how much of a step"
                " is unaccounted cannot be known."
            )
        return notes
    wall = own_total[wall_known].sum()
    if sums[wall_known].sum() > wall * (1 + _OVERLAP):
        excess = format_ms(float((sums - own_total)[wall_known].mean()))
        notes.append(
            f"The rows exceed the wall time by {excess} a step: a parent is logged beside its child, or times"
            " come from several threads; shares are of the rows' sum."
        )
    hidden = int((~wall_known & own_total.notna()).sum())
    if 2 * hidden > len(log.steps):
        notes.append(
            f"In {plural(hidden, 'step')} no time is left over, as where rows overlap and hide the wall time;"
            " the .jsonl file of the same run has it."
        )
    return notes


def _moved(move: Move) -> str:
    rows = ", ".join(move.children)
    return f"Counted inside {move.parent}, beside which the log prints them ({move.reason}): {rows}."


def _refusal(move: Move) -> str:
    rows = ", ".join(move.children)
    return f"Left beside {move.parent} although the names say inside, as they are longer than it: {rows}."
