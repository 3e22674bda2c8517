"""What the rules look at: a log after repair and warm-up, with the figures that several of them need."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from deblurkit.analysis.partition import Partition
from deblurkit.analysis.statistics import module_table, phase_shares, phase_table, weighted_mean
from deblurkit.analysis.tables import Event, RunLog, TraceFigures
from deblurkit.timing.partition import role_of
from deblurkit.units import plural

STALL_FACTOR = 5.0
_RARE = 0.05  # stalls in more steps than this are how the run goes, and count in every figure


@dataclass(frozen=True)
class Evidence:
    """What the rules look at: a log after repair and warm-up.

    Attributes:
        times: inclusive milliseconds per step and full name.
        step_ms: length of each step; same rows as ``times``.
        unaccounted_ms: time of each step that no phase covers; None where the log has no wall time.
        step_numbers: what the log calls these steps.
        num_steps: steps that the means stand for.
        is_summary: whether ``times`` holds means only, no single step.
        stalls_aside: stalled steps that were taken out.
        weights: steps that each row is the mean of; 1 each if None.
        log: that all of this comes from; None where only steps are known.
    """

    times: pd.DataFrame
    step_ms: pd.Series[float]
    unaccounted_ms: pd.Series[float] | None
    step_numbers: pd.Series[int]
    num_steps: int
    is_summary: bool
    stalls_aside: int = 0
    weights: pd.Series[float] | None = None
    log: RunLog | None = None

    @functools.cached_property
    def phases(self) -> pd.DataFrame:
        """As ``statistics.phase_table`` returns them."""
        return phase_table(self.times, self.step_ms, self.unaccounted_ms, self.weights)

    @functools.cached_property
    def modules(self) -> pd.DataFrame:
        """As ``statistics.module_table`` returns them, of the steps in which modules were timed."""
        rows = self.with_modules
        weights = None if self.weights is None else self.weights[rows]
        return module_table(self.times.loc[rows], self.step_ms.loc[rows], weights)

    @functools.cached_property
    def with_modules(self) -> pd.Index[Any]:
        """The rows in which something inside a phase was timed; all where none was, or none took any time."""
        inside = self.times[[name for name in self.times.columns if "/" in str(name)]]
        timed = self.times.index[inside.notna().any(axis=1)]
        return timed if float(self.step_ms.loc[timed].sum()) > 0 else self.times.index

    @property
    def wall_known(self) -> bool:
        """Whether shares are of wall time rather than of what was logged."""
        return self.unaccounted_ms is not None

    @property
    def basis(self) -> str:
        """How many steps the means stand for, in words."""
        aside = f", {plural(self.stalls_aside, 'stall')} aside" if self.stalls_aside else ""
        return f"{plural(self.num_steps, 'step')}{aside}"

    @functools.cached_property
    def mean_step_ms(self) -> float:
        """Mean length of a step; 0 where none is known."""
        return weighted_mean(self.step_ms, self.weights) if len(self.step_ms) else 0.0

    @functools.cached_property
    def stalled(self) -> pd.Series[bool]:
        """Which steps took more than five times the median."""
        return self.step_ms > STALL_FACTOR * self.step_ms.median()

    @property
    def trace(self) -> TraceFigures | None:
        """What a profiler's trace tells, if the log is one."""
        return self.log.trace if self.log is not None else None

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened, in the order of the file."""
        return self.log.events if self.log is not None else ()

    @property
    def samples_per_second(self) -> float | None:
        """Samples of all ranks a second, by the wall time or, without it, as the log prints them."""
        samples = self.log.samples_per_step if self.log is not None else None
        if samples is not None and self.wall_known and self.mean_step_ms > 0:
            return 1000 * samples / self.mean_step_ms
        printed = self.scalar("samples_per_second")
        return None if printed is None else float(printed["value"].median())

    def scalar(self, name: str) -> pd.DataFrame | None:
        """Return the finite values of a number beside the steps, in the order of the file; None without."""
        frame = self.log.scalars.get(name) if self.log is not None else None
        if frame is None:
            return None
        finite = frame[np.isfinite(frame["value"].to_numpy(dtype="float64"))]
        return finite if len(finite) else None

    @functools.cached_property
    def shares(self) -> dict[str, float]:
        """The share of the step of each phase, the longest first: of ``phases`` what is quick to know."""
        return phase_shares(self.times, self.step_ms, self.unaccounted_ms, self.weights)

    @functools.cached_property
    def steady(self) -> Evidence:
        """The same without rare stalls, see `without_rare_stalls`."""
        return without_rare_stalls(self)

    def has(self, role: str) -> bool:
        """Return whether a phase of this role was logged."""
        return any(role_of(name) == role for name in self.shares)

    def share(self, *roles: str) -> float:
        """Return the share of the step that phases of these roles take together."""
        return sum(share for name, share in self.shares.items() if role_of(name) in roles)

    def ms(self, *roles: str) -> float:
        """Return the mean milliseconds a step that phases of these roles take together."""
        return self.share(*roles) * self.mean_step_ms

    def ms_of(self, name: str) -> float:
        """Return the mean milliseconds a step of one phase."""
        return self.shares[name] * self.mean_step_ms

    def ms_of_each(self, *roles: str) -> pd.Series[float]:
        """Return the milliseconds of each step that phases of these roles take together."""
        named = [name for name in self.times.columns if "/" not in name and role_of(str(name)) in roles]
        return self.times[named].sum(axis=1)


def evidence_of(log: RunLog, partition: Partition, rows: pd.Index[Any]) -> Evidence:
    """Return what the rules look at.

    Args:
        log: as it was read.
        partition: its steps after the repair.
        rows: labels of those that count; the others are warm-up, or of no known length.
    """
    counts = counts_of(log)
    num_steps = log.num_steps - int(counts.drop(rows).sum())
    unaccounted = partition.unaccounted_ms
    return Evidence(
        times=partition.times.loc[rows],
        step_ms=partition.step_ms.loc[rows],
        unaccounted_ms=None if unaccounted is None else unaccounted.loc[rows],
        step_numbers=log.steps["step"].loc[rows],
        num_steps=num_steps if len(rows) else 0,
        is_summary=log.is_summary or (len(log.steps) == 1 and log.num_steps > 1),
        weights=None if (counts == 1).all() else counts.loc[rows],
        log=log,
    )


def counts_of(log: RunLog) -> pd.Series[float]:
    """Return how many steps each row of a log stands for."""
    if "count" not in log.steps:
        return pd.Series(1.0, index=log.steps.index)
    return log.steps["count"].fillna(1).clip(lower=1).astype("float64")


def without_rare_stalls(evidence: Evidence) -> Evidence:
    """Return the evidence of the steps that did not stall, if at most one in twenty did; else all of it."""
    stalled = evidence.stalled
    if evidence.is_summary or not 0 < stalled.mean() <= _RARE:
        return evidence
    weights = evidence.weights
    aside = int(stalled.sum() if weights is None else weights[stalled].sum())
    kept = selected(evidence, ~stalled, num_steps=evidence.num_steps - aside)
    return replace(kept, stalls_aside=aside)


def selected(evidence: Evidence, keep: pd.Series[bool], *, num_steps: int) -> Evidence:
    """Return the evidence of the rows in ``keep``, which stand for ``num_steps`` steps."""
    return replace(
        evidence,
        times=evidence.times[keep],
        step_ms=evidence.step_ms[keep],
        unaccounted_ms=None if evidence.unaccounted_ms is None else evidence.unaccounted_ms[keep],
        step_numbers=evidence.step_numbers[keep],
        num_steps=num_steps,
        weights=None if evidence.weights is None else evidence.weights[keep],
    )
