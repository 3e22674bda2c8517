"""From a log to a report: repair, warm-up, statistics, findings, verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from deblurkit.analysis.changes import changes
from deblurkit.analysis.diagnosis import find, verdict
from deblurkit.analysis.evidence import Evidence, counts_of, evidence_of
from deblurkit.analysis.findings import Finding
from deblurkit.analysis.notes import notes_on
from deblurkit.analysis.outliers import outliers
from deblurkit.analysis.partition import Partition, repair
from deblurkit.analysis.series import Change, Outlier, Trend, as_floats, trend
from deblurkit.analysis.statistics import epoch_table, scalar_table, spread, warmup_length
from deblurkit.analysis.tables import RunLog
from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import Beside
from deblurkit.units import plural

_FEWEST_FOR_TREND = 40
_PAUSES = ("validation", "checkpoint", "epoch")


@dataclass(frozen=True)
class Report:
    """What one log says about where a step's time goes.

    Attributes:
        source: the file.
        format: see ``RunLog.format``.
        steps: complete steps in the log, the warm-up among them.
        warmup_steps: steps at the front that the figures leave out.
        step_ms: ``mean``, ``p50``, ``p95``, ``p99``, ``min`` and ``max`` of a step; only the mean is known
            where only means were logged. Empty where the log does not tell how long a step takes.
        steps_per_second: None where the log has no wall time.
        samples_per_second: None also where the samples of a step are unknown and the log prints no rate.
        phases: as ``statistics.phase_table`` returns it.
        modules: as ``statistics.module_table`` returns it.
        findings: critical ones first.
        verdict: one line.
        notes: what the reader should know about the log, a sentence each.
        damaged_lines: lines that could not be read.
        has_percentiles: whether medians and percentiles are known.
        beside: what was done beside the steps, each name once.
        log: what was read.
        partition: all its steps after the repair, the warm-up among them; empty where the log has no steps.
        trend: of the length of a step over the run; None where steps are too few.
        changes: steps from which on a step takes another time, in their order.
        outliers: steps far off the others, the longest first.
        rows: labels of the rows of ``partition`` that the figures are of.
        epochs: as ``statistics.epoch_table`` returns it.
        scalars: as ``statistics.scalar_table`` returns it.
    """

    source: str
    format: str
    steps: int
    warmup_steps: int
    step_ms: dict[str, float]
    steps_per_second: float | None
    samples_per_second: float | None
    phases: pd.DataFrame
    modules: pd.DataFrame
    findings: tuple[Finding, ...]
    verdict: str
    notes: tuple[str, ...]
    damaged_lines: int
    has_percentiles: bool
    beside: tuple[Beside, ...]
    log: RunLog
    partition: Partition
    trend: Trend | None = None
    changes: tuple[Change, ...] = ()
    outliers: tuple[Outlier, ...] = ()
    rows: pd.Index[Any] = field(default_factory=lambda: pd.Index([]))
    epochs: pd.DataFrame = field(default_factory=pd.DataFrame)
    scalars: pd.DataFrame = field(default_factory=pd.DataFrame)


def analyze(log: RunLog, *, warmup_steps: int | None = None) -> Report:
    """Return the report on a log.

    Args:
        log: as a reader returned it.
        warmup_steps: steps to leave out at the front; found by their length if None.

    Raises:
        DeblurkitError: if the warm-up leaves no step, or every time in the log is zero.
    """
    partition = repair(log)
    known = partition.step_ms.dropna()
    skipped = _warmup(log, known, warmup_steps)
    if len(known) and not float(known.iloc[skipped:].sum()) > 0:
        raise DeblurkitError(f"{log.source}: every time in it is zero; check that the clock of the run works")
    evidence = evidence_of(log, partition, known.index[skipped:])
    warmup = int(counts_of(log)[known.index[:skipped]].sum())
    per_second = 1000 / evidence.mean_step_ms if evidence.wall_known and evidence.num_steps else None
    levels = changes(evidence.step_ms, evidence.step_numbers, evidence.times)
    return Report(
        source=log.source,
        format=log.format,
        steps=log.num_steps,
        warmup_steps=warmup,
        step_ms=spread(evidence.step_ms, evidence.weights) if evidence.num_steps else {},
        steps_per_second=per_second,
        samples_per_second=evidence.samples_per_second,
        phases=evidence.phases,
        modules=evidence.modules,
        findings=tuple(find(evidence)),
        verdict=verdict(evidence),
        notes=tuple(notes_on(log, partition, evidence, warmup, forced=warmup_steps is not None)),
        damaged_lines=log.damaged_lines,
        has_percentiles=not evidence.is_summary,
        beside=_added_up(_beside(log)),
        log=log,
        partition=partition,
        trend=_trend(evidence),
        changes=levels,
        outliers=_outliers(evidence, levels),
        rows=evidence.step_ms.index,
        epochs=_epochs(evidence),
        scalars=scalar_table(log.scalars),
    )


def _warmup(log: RunLog, known: pd.Series[float], wanted: int | None) -> int:
    """Return how many rows of known length at the front are warm-up."""
    if wanted is None:
        return warmup_length(known)
    if not wanted or not len(known):
        return 0
    until = counts_of(log)[known.index].cumsum()
    rows = int((until < wanted).sum()) + 1
    if rows >= len(known):
        held = "only means, no single steps" if log.is_summary else plural(int(until.iloc[-1]), "step")
        raise DeblurkitError(f"{log.source}: --warmup {wanted} leaves no step; the log holds {held}")
    return rows


def _trend(evidence: Evidence) -> Trend | None:
    if evidence.is_summary or len(evidence.step_ms) < _FEWEST_FOR_TREND:
        return None
    values = as_floats(evidence.step_ms)
    passed = np.ones(len(values)) if evidence.weights is None else as_floats(evidence.weights)
    return trend(values, np.cumsum(passed))


def _outliers(evidence: Evidence, levels: Iterable[Change]) -> tuple[Outlier, ...]:
    if evidence.is_summary:
        return ()
    numbers = as_floats(evidence.step_numbers)
    starts = [int(np.argmax(numbers == change.step)) for change in levels]
    return outliers(evidence.step_ms, evidence.step_numbers, evidence.times, sorted(starts))


def _epochs(evidence: Evidence) -> pd.DataFrame:
    log = evidence.log
    if log is None or "epoch" not in log.steps:
        return epoch_table(pd.Series(dtype="float64"), pd.Series(dtype="float64"))
    return epoch_table(log.steps["epoch"].loc[evidence.step_ms.index], evidence.step_ms, evidence.weights)


def _beside(log: RunLog) -> Iterator[Beside]:
    """Yield what was done beside the steps: as the log adds it up, else pauses between its lines."""
    yield from log.beside
    told = {part.name.rstrip("s") for part in log.beside}
    for event in log.events:
        if event.kind in _PAUSES and event.seconds and event.kind not in told:
            yield Beside(event.kind, event.seconds, 1, event.step or 0)


def _added_up(beside: Iterable[Beside]) -> tuple[Beside, ...]:
    """Return one entry a name, the longest first."""
    whole: dict[str, Beside] = {}
    for part in beside:
        so_far = whole.get(part.name, Beside(part.name, 0.0, 0, 0))
        whole[part.name] = Beside(
            part.name, so_far.seconds + part.seconds, so_far.count + part.count, part.after_step
        )
    return tuple(sorted(whole.values(), key=lambda part: -part.seconds))
