"""Ranks side by side: which of them the others wait for, and in which phase it is slow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deblurkit.analysis.tables import TimingLog
from deblurkit.timing.partition import role_of
from deblurkit.units import format_ms, format_share

WARN, CRITICAL = 0.10, 0.20  # gap of the slowest rank to the median, as a share of the step
_LEAST_STEPS = 5
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
        return (
            f"rank {self.rank} is the slowest: {format_ms(self.busy_ms)} of work a step against"
            f" {format_ms(self.typical_ms)} of the median rank ({format_share(self.share)} of the step), most"
            f" of it in {self.phase} (+{format_ms(self.phase_gap_ms)}); the others wait up to"
            f" {format_ms(self.waiting_ms)} for it"
        )


def by_rank(logs: Iterable[TimingLog]) -> dict[str, dict[int, pd.DataFrame]]:
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
    """
    plain = {rank: table.rename(columns=_plain) for rank, table in ranks.items()}
    measured = {rank: table for rank, table in plain.items() if _WAITING in table}
    if len(measured) < 2:
        return None
    common = set.intersection(*(set(table.index[table[_WAITING].notna()]) for table in measured.values()))
    if len(common) < _LEAST_STEPS:
        return None
    steps = sorted(common)[1:]  # the first one starts everything
    medians = pd.DataFrame({rank: table.loc[steps].median() for rank, table in measured.items()})
    waiting = medians.loc[_WAITING]
    phases = medians.loc[[name for name in medians.index if "/" not in name and name != "wall_ms"]].copy()
    if "backward" in phases.index:
        phases.loc["backward"] -= waiting
    busy = medians.loc["wall_ms"] - waiting
    rank = max(busy.index, key=lambda number: busy[number])
    others = busy.drop(index=rank)
    gap = float(busy[rank] - (busy.median() if len(busy) > 2 else others.min()))
    share = gap / float(np.median(medians.loc["wall_ms"]))
    if share < WARN:
        return None
    own, typical = phases[rank], phases.drop(columns=rank).median(axis=1)
    excess = {str(name): float(own[name] - typical[name]) for name in typical.dropna().index}
    phase = max(excess, key=lambda name: excess[name])
    return Straggler(
        rank=int(rank),
        busy_ms=float(busy[rank]),
        typical_ms=float(busy[rank]) - gap,
        share=share,
        phase=phase,
        phase_gap_ms=excess[phase],
        waiting_ms=float(np.max(waiting)),
    )
