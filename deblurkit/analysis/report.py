"""From a log to a report: repair, warm-up, statistics, findings, verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from deblurkit.analysis.findings import Evidence, Finding, find, verdict
from deblurkit.analysis.partition import Partition, repair
from deblurkit.analysis.statistics import spread, steps_back, warmup_length
from deblurkit.analysis.tables import TimingLog
from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import Beside
from deblurkit.units import plural


@dataclass(frozen=True)
class Report:
    """What one log says about where a step's time goes.

    Attributes:
        source: the file.
        format: see ``TimingLog.format``.
        steps: complete steps in the log, the warm-up among them.
        warmup_steps: steps at the front that the figures leave out.
        step_ms: ``mean``, ``p50``, ``p95`` of a step; the last two are None where only means were logged.
        steps_per_second: None where the log has no wall time.
        samples_per_second: None also where the samples of a step are unknown.
        phases: as ``statistics.phase_table`` returns it.
        modules: as ``statistics.module_table`` returns it.
        findings: critical ones first.
        verdict: one line.
        notes: what the reader should know about the log, a sentence each.
        damaged_lines: lines that could not be read.
        has_percentiles: whether medians and percentiles are known.
        beside: what was done beside the steps, each name once.
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
    beside: tuple[Beside, ...] = ()


def analyze(log: TimingLog, *, warmup_steps: int | None = None) -> Report:
    """Return the report on a log.

    Args:
        log: as a reader returned it.
        warmup_steps: steps to leave out at the front; found by their length if None.

    Raises:
        DeblurkitError: if the warm-up leaves no step, or every time in the log is zero.
    """
    partition = repair(log)
    skipped = _warmup(log, partition, warmup_steps)
    times, step_ms = partition.times.iloc[skipped:], partition.step_ms.iloc[skipped:]
    unaccounted = partition.unaccounted_ms.iloc[skipped:] if partition.unaccounted_ms is not None else None
    if not float(step_ms.sum()) > 0:
        raise DeblurkitError(f"{log.source}: every time in it is zero; check that the clock of the run works")
    evidence = Evidence(
        times=times,
        step_ms=step_ms,
        unaccounted_ms=unaccounted,
        step_numbers=log.steps["step"].iloc[skipped:],
        num_steps=log.num_steps - skipped,
        is_summary=log.is_summary,
    )
    per_second = 1000 / float(step_ms.mean()) if evidence.wall_known else None
    samples = log.samples_per_step
    return Report(
        source=log.source,
        format=log.format,
        steps=log.num_steps,
        warmup_steps=skipped,
        step_ms=spread(step_ms),
        steps_per_second=per_second,
        samples_per_second=per_second * samples if per_second is not None and samples is not None else None,
        phases=evidence.phases,
        modules=evidence.modules,
        findings=tuple(find(evidence)),
        verdict=verdict(evidence),
        notes=_notes(log, partition, skipped, forced=warmup_steps is not None),
        damaged_lines=log.damaged_lines,
        has_percentiles=not log.is_summary,
        beside=_added_up(log.beside),
    )


def _warmup(log: TimingLog, partition: Partition, wanted: int | None) -> int:
    if wanted is None:
        return warmup_length(partition.step_ms)
    if wanted >= len(partition.step_ms):
        held = "only means, no single steps" if log.is_summary else plural(len(partition.step_ms), "step")
        if wanted > 0:
            raise DeblurkitError(f"{log.source}: --warmup {wanted} leaves no step; the log holds {held}")
    return wanted


def _added_up(beside: Iterable[Beside]) -> tuple[Beside, ...]:
    """Return one entry a name, the longest first."""
    whole: dict[str, Beside] = {}
    for part in beside:
        so_far = whole.get(part.name, Beside(part.name, 0.0, 0, 0))
        whole[part.name] = Beside(
            part.name, so_far.seconds + part.seconds, so_far.count + part.count, part.after_step
        )
    return tuple(sorted(whole.values(), key=lambda part: -part.seconds))


def _notes(log: TimingLog, partition: Partition, skipped: int, *, forced: bool) -> tuple[str, ...]:
    notes = []
    if skipped:
        why = "as asked" if forced else "longer than three times the median"
        notes.append(f"Warm-up: {plural(skipped, 'step')} at the front left out of all figures, {why}.")
    if log.damaged_lines:
        notes.append(f"{plural(log.damaged_lines, 'damaged line')} left out.")
    resumed = steps_back(log.steps["step"])
    if resumed:
        notes.append(
            f"Step numbers go back {plural(resumed, 'time')}, as after a resume; all steps are counted."
        )
    return (*notes, *log.notes, *partition.notes)
