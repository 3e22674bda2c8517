"""What the reader of a report should know about its log, a sentence each."""

from __future__ import annotations

from collections.abc import Iterator

from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.partition import Partition
from deblurkit.analysis.statistics import steps_back
from deblurkit.analysis.tables import RunLog
from deblurkit.units import format_share, plural

_BUSY_GPU = 0.9  # the older scripts' list of checks
_BUSY_CPU = 0.85  # likewise
_SLOW = 1.0  # samples a second, by their table of symptoms


def notes_on(
    log: RunLog, partition: Partition, evidence: Evidence, warmup: int, *, forced: bool
) -> Iterator[str]:
    """Yield what the reader of a report should know about its log, a sentence each.

    Args:
        log: as it was read.
        partition: its steps after the repair.
        evidence: what the figures are of.
        warmup: steps left out at the front.
        forced: whether the user said how many.
    """
    if warmup:
        why = "as asked" if forced else "longer than three times the median"
        yield f"Warm-up: {plural(warmup, 'step')} at the front left out of all figures, {why}."
    if log.damaged_lines:
        yield f"{plural(log.damaged_lines, 'damaged line')} left out."
    resumed = steps_back(log.steps["step"])
    if resumed:
        yield f"Step numbers go back {plural(resumed, 'time')}, as after a resume; all steps are counted."
    yield from _means(evidence)
    yield from _some_modules(evidence)
    unknown = int(partition.step_ms.isna().sum())
    if unknown and evidence.num_steps:
        yield f"{plural(unknown, 'line')} without a length of its steps left out of the figures."
    yield from log.notes
    yield from partition.notes
    yield from _machine(evidence)
    yield from _slow(evidence)


def _means(evidence: Evidence) -> Iterator[str]:
    if evidence.weights is None or evidence.is_summary or not len(evidence.weights):
        return
    usual = float(evidence.weights.median())
    if usual > 1:
        yield (
            f"A line stands for {usual:,.0f} steps: medians, percentiles and stalls are of their means, and a"
            " single slow step hides in them."
        )


def _some_modules(evidence: Evidence) -> Iterator[str]:
    """Yield in how many steps modules were timed, where timing was thinned out."""
    timed = len(evidence.with_modules)
    if timed < len(evidence.times):
        counted = timed if evidence.weights is None else int(evidence.weights[evidence.with_modules].sum())
        yield (
            f"Modules were timed in {counted:,} of {plural(evidence.num_steps, 'step')}: what is inside the"
            " phases is of these."
        )


def _machine(evidence: Evidence) -> Iterator[str]:
    """Yield what the machine's own figures say that no rule can pin down."""
    gpu, cpu = _median(evidence, "gpu_utilisation"), _median(evidence, "cpu_utilisation")
    if gpu is not None and gpu < _BUSY_GPU:
        yield (
            f"The GPU is busy {format_share(gpu)} of the time (over 90 % is usual). If the wait for data does"
            " not explain it, take a trace with torch.profiler and hand it over: it tells a late host from"
            " calls that wait."
        )
    if cpu is not None and cpu > _BUSY_CPU:
        yield (
            f"The CPU is busy {format_share(cpu)} of the time (over 85 %): more workers would find no room."
        )


def _slow(evidence: Evidence) -> Iterator[str]:
    """Yield that training is slow where the log has no phases that could tell why."""
    rate = evidence.samples_per_second
    if rate is not None and rate < _SLOW and not evidence.has("forward"):
        yield (
            f"{rate:.2f} samples a second is slow (under 1), and this log does not tell why: one with phases"
            " does, such as deblurkit's own (`--set LOG.ENABLE_TIMING_LOG=true`)."
        )


def _median(evidence: Evidence, name: str) -> float | None:
    frame = evidence.scalar(name)
    return None if frame is None else float(frame["value"].median())
