"""The phases of two logs side by side, matched by what they are rather than by what they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from deblurkit.analysis.bootstrap import Floats
from deblurkit.analysis.partition import top_level
from deblurkit.analysis.report import Report
from deblurkit.timing.partition import name_key, role_of
from deblurkit.timing.records import UNACCOUNTED

ALL_ELSE = "all else"
_LONG = 0.05


@dataclass(frozen=True)
class TimedSteps:
    """The steps of a report behind its warm-up.

    Attributes:
        step_ms: (rows,) length of each.
        counts: (rows,) steps that each row is the mean of.
        phases: by key (a standard phase, else the plain form of the name), (rows,) milliseconds; 0 where
            not measured.
        names: what the log calls them, by key.
        wall_known: whether ``step_ms`` is wall time, not a sum of rows.
    """

    step_ms: Floats
    counts: Floats
    phases: Mapping[str, Floats]
    names: Mapping[str, tuple[str, ...]]
    wall_known: bool

    @property
    def num_steps(self) -> int:
        """Steps that the rows stand for."""
        return round(float(self.counts.sum()))


@dataclass(frozen=True)
class MatchedRows:
    """Two logs with the same columns, which add up to the first one, the step.

    Attributes:
        keys: of the columns behind the step: the phases that both have, then what is left of the step:
            ``unaccounted``, or `ALL_ELSE` where rows of one log are in it. The rest lacks where the step is
            no wall time, and where no phase is in both logs there is none at all.
        a, b: (rows, 1 + keys) milliseconds.
        only_a, only_b: keys of the phases that one log has.
        is_wall: whether the step is wall time; else it is the sum of the phases that both have.
    """

    keys: tuple[str, ...]
    a: Floats
    b: Floats
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    is_wall: bool

    @property
    def deciding(self) -> npt.NDArray[np.bool_]:
        """The columns whose memory counts for the length of blocks: the step, and phases over 5 % of it."""
        shares = [side.sum(axis=0) / side[:, 0].sum() for side in (self.a, self.b)]
        return np.max(shares, axis=0) >= _LONG


def phase_key(name: str) -> str:
    """Return the standard phase that a name stands for, in any language, else its plain form."""
    return role_of(name) or name_key(name)


def timed_steps(report: Report) -> TimedSteps:
    """Return the steps that a report's figures are made of, those without any time left out."""
    partition = report.partition
    step_ms = partition.step_ms.reindex(report.rows)
    about = report.log.steps.reindex(report.rows)
    tops = top_level(partition.times).reindex(report.rows)
    wall = about["wall_known"].eq(True) if "wall_known" in about else pd.Series(False, index=step_ms.index)
    kept = ((wall | tops.notna().any(axis=1)) & step_ms.notna()).to_numpy()
    counts = about["count"].fillna(1) if "count" in about else pd.Series(1.0, index=step_ms.index)
    phases, names = _by_key(tops[kept])
    return TimedSteps(
        step_ms=_filled(step_ms[kept]),
        counts=_filled(counts[kept]),
        phases=phases,
        names=names,
        wall_known=partition.unaccounted_ms is not None,
    )


def match(a: TimedSteps, b: TimedSteps) -> MatchedRows | None:
    """Return both logs with the same columns; None where they have nothing in common to compare.

    Where not both have wall time, a step is what both name: a row that one log lacks would otherwise pass
    for time saved.
    """
    shared = [key for key in a.phases if key in b.phases]
    only_a = tuple(key for key in a.phases if key not in b.phases)
    only_b = tuple(key for key in b.phases if key not in a.phases)
    is_wall = a.wall_known and b.wall_known
    keys = tuple(shared)
    if is_wall and shared:
        keys += (ALL_ELSE if only_a or only_b else UNACCOUNTED,)
    before, after = (_columns(side, shared, is_wall=is_wall) for side in (a, b))
    if not (before[:, 0].sum() > 0 and after[:, 0].sum() > 0):
        return None
    return MatchedRows(keys, before, after, only_a, only_b, is_wall)


def _by_key(tops: pd.DataFrame) -> tuple[dict[str, Floats], dict[str, tuple[str, ...]]]:
    phases: dict[str, Floats] = {}
    names: dict[str, tuple[str, ...]] = {}
    for name, values in tops.items():
        key = phase_key(str(name))
        if values.notna().any():
            phases[key] = phases.get(key, 0.0) + _filled(values)
            names[key] = (*names.get(key, ()), str(name))
    return phases, names


def _columns(side: TimedSteps, shared: Sequence[str], *, is_wall: bool) -> Floats:
    rows = [side.phases[key] for key in shared]
    covered = np.sum(rows, axis=0) if rows else np.zeros(len(side.step_ms))
    if not is_wall:
        return np.column_stack([covered, *rows])
    rest = [side.step_ms - covered] if rows else []
    return np.column_stack([side.step_ms, *rows, *rest])


def _filled(values: pd.Series[float]) -> Floats:
    return np.asarray(values.fillna(0.0), dtype=np.float64)
