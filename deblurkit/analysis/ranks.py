"""Ranks side by side: which of them the others wait for, and in which phase it is slow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deblurkit.analysis.tables import RunLog
from deblurkit.timing.partition import role_of
from deblurkit.units import format_ms, format_share

WARN, CRITICAL = 0.10, 0.20  # gap of the slowest rank to the median, as a share of the step
_LEAST_STEPS = 5
_LEAST_STEPS_UNTOLD = 20
_IN_STEP = 0.05  # of a step, by which the wall times of ranks differ that wait for each other
_WALL = "wall_ms"
_WAITING = "backward/all_reduce"  # communication that nothing is computed beside


@dataclass(frozen=True)
class Straggler:
    """A rank that the others wait for; times are medians over the steps, in milliseconds.

    Attributes:
        rank: which.
        busy_ms: its step without the time that it waits for others.
        typical_ms: the same of the median rank.
        share: the gap of the two as a share of the step.
        phase: the phase that differs most, and by how much.
        phase_gap_ms: time that this phase takes longer than in the median rank.
        waiting_ms: exposed communication of the rank that waits most.
    """

    rank: int
    busy_ms: float
    typical_ms: float
    share: float
    phase: str
    phase_gap_ms: float
    waiting_ms: float

    @property
    def is_critical(self) -> bool:
        """Whether the gap is 20 % of the step or more."""
        return self.share >= CRITICAL

    def as_line(self) -> str:
        """Return what is known of it in one line."""
        waiting = (
            f"; the others wait up to {format_ms(self.waiting_ms)} for it" if self.waiting_ms > 0 else ""
        )
        return (
            f"rank {self.rank} is the slowest: {format_ms(self.busy_ms)} of work a step against"
            f" {format_ms(self.typical_ms)} of the median rank ({format_share(self.share)} of the step), most"
            f" of it in {self.phase} (+{format_ms(self.phase_gap_ms)}){waiting}"
        )


def by_rank(logs: Iterable[RunLog]) -> dict[str, dict[int, pd.DataFrame]]:
    """Return the steps of every rank, by the folder of the run's logs, as `find_straggler` takes them.

    Logs that do not say their rank are left out.
    """
    runs: dict[str, dict[int, pd.DataFrame]] = {}
    for log in logs:
        if log.rank is None:
            continue
        table = log.times.assign(wall_ms=log.steps["total_ms"])
        table.index = pd.Index(log.steps["step"], name="step")
        runs.setdefault(str(Path(log.source).parent), {})[log.rank] = table[
            ~table.index.duplicated(keep="last")
        ]
    return runs


def _plain(column: str) -> str:
    """Return a column under the English name of its phase, whatever the language of the log."""
    phase, slash, rest = column.partition("/")
    return f"{role_of(phase) or phase}{slash}{rest}"


def find_straggler(ranks: Mapping[int, pd.DataFrame]) -> Straggler | None:
    """Return the rank that holds the others up by 10 % of a step or more, None where there is none.

    Args:
        ranks: by rank, one row per step: index ``step``, ``wall_ms``, and a column of milliseconds for each
            row of the log, ``backward/all_reduce`` being communication that nothing is computed beside.

    Abstains with fewer than two ranks, or five steps that all of them have with their communication known.
    Where no rank tells its communication, 20 steps are needed, and a rank's backward pass is taken to wait
    for as long as it exceeds the shortest one, if all ranks keep step.
    """
    plain = {rank: table.rename(columns=_plain) for rank, table in ranks.items()}
    measured = {rank: table for rank, table in plain.items() if _tells_waiting(table)}
    side_by_side = _with_communication(measured) if measured else _without_communication(plain)
    if side_by_side is None:
        return None
    medians, waiting = side_by_side
    busy = medians.T[_WALL] - waiting
    rank = max(busy.index, key=lambda number: busy[number])
    gap = float(busy[rank] - (busy.median() if len(busy) > 2 else busy.drop(index=rank).min()))
    share = gap / float(np.median(medians.loc[_WALL]))
    if share < WARN:
        return None
    phase, phase_gap_ms = _differs_most(medians, waiting, rank)
    return Straggler(
        rank=int(rank),
        busy_ms=float(busy[rank]),
        typical_ms=float(busy[rank]) - gap,
        share=share,
        phase=phase,
        phase_gap_ms=phase_gap_ms,
        waiting_ms=float(np.max(waiting)),
    )


def _tells_waiting(table: pd.DataFrame) -> bool:
    return _WAITING in table and bool(table[_WAITING].notna().any())


def _with_communication(
    measured: Mapping[int, pd.DataFrame],
) -> tuple[pd.DataFrame, pd.Series[float]] | None:
    """Return the medians of all rows by rank over the steps that tell it, and how long each rank waits."""
    if len(measured) < 2:
        return None
    common = set.intersection(*(set(table.index[table[_WAITING].notna()]) for table in measured.values()))
    if len(common) < _LEAST_STEPS:
        return None
    medians = _medians(measured, common)
    return medians, medians.T[_WAITING]


def _without_communication(
    tables: Mapping[int, pd.DataFrame],
) -> tuple[pd.DataFrame, pd.Series[float]] | None:
    """Return the same of ranks that do not tell how long they wait, by the lengths of their phases."""
    if len(tables) < 2 or not all("backward" in table for table in tables.values()):
        return None
    common = set.intersection(*(set(table.index[table[_WALL].notna()]) for table in tables.values()))
    if len(common) < _LEAST_STEPS_UNTOLD:
        return None
    medians = _medians(tables, common)
    wall, backward = medians.T[_WALL], medians.T["backward"]
    in_step = float(wall.max() - wall.min()) <= _IN_STEP * float(wall.median())
    return medians, backward - backward.min() if in_step else 0 * backward


def _medians(tables: Mapping[int, pd.DataFrame], common: set[int]) -> pd.DataFrame:
    steps = sorted(common)[1:]  # the first one starts everything
    return pd.DataFrame({rank: table.loc[steps].median() for rank, table in tables.items()})


def _differs_most(medians: pd.DataFrame, waiting: pd.Series[float], rank: int) -> tuple[str, float]:
    """Return the phase that takes a rank most longer than the median of the others, and how much longer."""
    phases = medians.loc[[name for name in medians.index if "/" not in name and name != _WALL]].copy()
    if "backward" in phases.index:
        phases.loc["backward"] -= waiting
    typical = phases.drop(columns=rank).median(axis=1)
    excess = {str(name): float(phases.loc[name, rank] - typical[name]) for name in typical.dropna().index}
    phase = max(excess, key=lambda name: excess[name])
    return phase, excess[phase]
