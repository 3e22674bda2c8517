"""What changed from one log to another: speed, quality, memory, and whether predicted gains came true."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deblurkit.analysis.compare_scalars import (
    QualityChange,
    Shift,
    memory_peaks,
    quality_changes,
    trace_shifts,
)
from deblurkit.analysis.compare_steps import Run, StepChange, compare_steps
from deblurkit.analysis.matched_rows import match, timed_steps
from deblurkit.analysis.predicted_gains import GainCheck, check_gains
from deblurkit.analysis.report import Report

_SIZES = {"moderate": 1, "material": 2}
_CROOKED = 0.03  # by how much the mean and the median may tell different stories


@dataclass(frozen=True)
class Side:
    """One of the two logs.

    Attributes:
        source, format: as in its report.
        steps: that the figures are made of, without warm-up.
        mean_ms, median_ms: of a step, as the report has them; None where the log tells no times, the median
            also where it tells means only.
        samples_per_step, samples_per_second: None unknown.
    """

    source: str
    format: str
    steps: int
    mean_ms: float | None
    median_ms: float | None
    samples_per_step: int | None
    samples_per_second: float | None


@dataclass(frozen=True)
class Comparison:
    """What two logs tell about a change.

    Attributes:
        a, b: the logs, the earlier one first.
        steps: how the step times compare; its verdict is that of the comparison.
        quality: losses and scores at the same steps.
        memory: peaks that both logs hold.
        trace: figures of two profiler traces; empty where not both are.
        gains: what became of A's predictions.
        notes: what the reader should know, a sentence each.
    """

    a: Side
    b: Side
    steps: StepChange
    quality: tuple[QualityChange, ...]
    memory: tuple[Shift, ...]
    trace: tuple[Shift, ...]
    gains: tuple[GainCheck, ...]
    notes: tuple[str, ...]


def compare(a: Report, b: Report, *, seed: int = 0) -> Comparison:
    """Return what changed from A to B.

    Args:
        a: report on the earlier run.
        b: report on the later one.
        seed: of the resampling; the same one gives the same intervals.
    """
    runs = _run("A", a), _run("B", b)
    rows = match(runs[0].steps, runs[1].steps)
    steps = compare_steps(*runs, rows, seed=seed)
    gone = {finding.id for finding in a.findings} - {finding.id for finding in b.findings}
    gains: tuple[GainCheck, ...] = ()
    if steps.pair is not None and rows is not None:
        gains = check_gains(a.findings, gone=gone, pair=steps.pair, keys=rows.keys)
    return Comparison(
        a=_side(a, runs[0]),
        b=_side(b, runs[1]),
        steps=steps,
        quality=quality_changes(a.log, b.log),
        memory=memory_peaks(a.log, b.log),
        trace=trace_shifts(a.log.trace, b.log.trace),
        gains=gains,
        notes=(*_notes(a, b, steps), *_notes_on_quality(a, b)),
    )


def fails(comparison: Comparison, level: str) -> bool:
    """Return whether B is shown to be slower than A by ``level`` (``moderate`` or ``material``) or more.

    Raises:
        ValueError: if there is no such level.
    """
    if level not in _SIZES:
        raise ValueError(f"level {level!r}; expected one of {', '.join(_SIZES)}")
    verdict = comparison.steps.verdict
    return verdict.direction == "slower" and _SIZES.get(verdict.level, 0) >= _SIZES[level]


def _run(name: str, report: Report) -> Run:
    return Run(name, timed_steps(report), report.log.samples_per_step, not report.has_percentiles)


def _side(report: Report, run: Run) -> Side:
    timed = len(run.steps.step_ms) > 0
    return Side(
        source=report.source,
        format=report.format,
        steps=report.steps - report.warmup_steps,
        mean_ms=report.step_ms.get("mean") if timed else None,
        median_ms=report.step_ms.get("p50") if timed and not run.is_summary else None,
        samples_per_step=report.log.samples_per_step,
        samples_per_second=report.samples_per_second,
    )


def _notes(a: Report, b: Report, steps: StepChange) -> Iterator[str]:
    if steps.step_ratio is not None and steps.step_ratio.known:
        yield (
            "Intervals hold 95 %, worked out from how the steps of the two logs vary. How far two runs of one"
            " configuration lie apart they do not know: compare two such runs to see."
        )
    if steps.pair is not None and not steps.is_wall:
        yield (
            "Not both logs hold the wall time of a step: what is compared is the sum of the phases that both"
            " name, and time that no phase covers may have changed unseen."
        )
    if steps.per == "sample":
        yield (
            f"A step takes {a.log.samples_per_step:,} samples in A and {b.log.samples_per_step:,} in B:"
            " verdict and phases are of the time a sample."
        )
    silent = [name for name, report in (("A", a), ("B", b)) if report.log.samples_per_step is None]
    if steps.pair is not None and silent:
        yield (
            f"{' and '.join(silent)} {'do' if len(silent) > 1 else 'does'} not tell how many samples a step"
            " takes: another batch size would look like another speed."
        )
    ratio = steps.sample_ratio if steps.per == "sample" else steps.step_ratio
    if ratio is not None and steps.median_ratio is not None:
        gap = ratio.value / steps.median_ratio
        if max(gap, 1 / gap) > 1 + _CROOKED:
            yield (
                f"The median step tells another story: B takes {steps.median_ratio:.3f} times as long as A"
                " by it. A few long steps make the difference."
            )


def _notes_on_quality(a: Report, b: Report) -> Iterator[str]:
    if a.format != b.format and "loss" in a.log.scalars and "loss" in b.log.scalars:
        yield "The logs come from two programs: their losses compare only if both compute the same one."
