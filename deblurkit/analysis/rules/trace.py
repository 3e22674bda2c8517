"""What a profiler's trace tells that no log of times can: why the device idled, and what limits the step."""

from __future__ import annotations

import pandas as pd

from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.findings import Measured
from deblurkit.analysis.tables import TraceFigures
from deblurkit.units import format_ms, format_share

_DECIDES = 0.20  # of the step: the limit above which TraceML calls a wait critical
_BUSY = 0.70
_WORTH_A_WORD = 0.05  # TensorBoard's plugin speaks of data above it
_MOST_NAMED = 3


def data_gaps(evidence: Evidence) -> Measured | None:
    """Measure the share of the step in which the device idles for data; without a device, of the loader."""
    trace = _whole_trace(evidence)
    if trace is None or not trace.has_device:
        return None if trace is None or not trace.data_us else _loader_alone(evidence, trace)
    return _measured(
        evidence,
        "data_gap",
        "the GPU has nothing to run while the host is in the data loader's call, or because it had been;"
        f" kernels run {_share_of_step(trace, trace.kernel_us)}.",
    )


def waiting_gaps(evidence: Evidence) -> Measured | None:
    """Measure the share of the step in which the device idles because the host had waited for it."""
    trace = _whole_trace(evidence)
    if trace is None or not trace.launches_known:
        return None
    named = "; ".join(f"{name} {calls:.0f} x, {_us(us)}" for name, us, calls in trace.waits[:_MOST_NAMED])
    return _measured(
        evidence,
        "sync_gap",
        f"the GPU has nothing to run because the host waits for it, or had waited: {_us(trace.sync_us)} a"
        f" step in calls that wait ({named}); kernels run {_share_of_step(trace, trace.kernel_us)}.",
    )


def launch_gaps(evidence: Evidence) -> Measured | None:
    """Measure the share of the step in which the device idles because the host launches too late."""
    trace = _whole_trace(evidence)
    if trace is None or not trace.launches_known:
        return None
    return _measured(
        evidence,
        "launch_gap",
        "the GPU has nothing to run, and the call that launches its next work began after the last one had"
        f" ended; kernels run {_share_of_step(trace, trace.kernel_us)}, and operators on the host take"
        f" {_share_of_step(trace, trace.operator_us)}.",
    )


def exposed_communication(evidence: Evidence) -> Measured | None:
    """Measure the share of the step in which the device communicates and does nothing else."""
    trace = _whole_trace(evidence)
    if trace is None or trace.overlap_share is None:
        return None
    return _measured(
        evidence,
        "exposed_communication",
        f"kernels of communication run {_us(trace.communication_us)} a step, and"
        f" {format_share(trace.overlap_share)} of that is covered by other work of the GPU.",
    )


def _whole_trace(evidence: Evidence) -> TraceFigures | None:
    """Return the figures to go by: none of a trace that was cut off, in which idle may be what is missing."""
    trace = evidence.trace
    return trace if trace is not None and trace.is_whole else None


def trace_verdict(figures: TraceFigures) -> str:
    """Return in one line what a traced step is spent on, or why the trace cannot tell."""
    if not figures.is_whole:
        return "undetermined: the trace is cut off, and what is missing looks like idle time; record it again"
    if not figures.has_device:
        return _verdict_without_device(figures)
    kernels = f"kernels run {_share_of_step(figures, figures.kernel_us)}"
    causes = {
        "data-bound": (figures.data_gap_us, "the GPU idles for data"),
        "sync-bound": (figures.sync_gap_us, "the GPU idles because the host waited for it"),
        "host-bound": (figures.launch_gap_us, "the GPU idles because the host launches too late"),
        "communication-bound": (figures.exposed_communication_us, "the GPU only communicates"),
    }
    name, (spent, why) = max(causes.items(), key=lambda cause: cause[1][0])
    step = format_ms(figures.step_us / 1000)
    if spent >= _DECIDES * figures.step_us:
        return f"{name}: {why} in {_share_of_step(figures, spent)} of a {step} step; {kernels}"
    if not figures.launches_known and figures.idle_us >= _DECIDES * figures.step_us:
        idle = f"the GPU idles in {_share_of_step(figures, figures.idle_us)} of a {step} step"
        return f"undetermined: {idle}, and the trace does not tell which call launched what; {kernels}"
    kind = "compute-bound" if figures.kernel_us >= _BUSY * figures.step_us else "mixed"
    lost = f"; {why} in {_share_of_step(figures, spent)}" if spent >= _WORTH_A_WORD * figures.step_us else ""
    return f"{kind}: {kernels} of a {step} step{lost}"


def _verdict_without_device(figures: TraceFigures) -> str:
    step, data = format_ms(figures.step_us / 1000), _share_of_step(figures, figures.data_us)
    if figures.data_us >= _DECIDES * figures.step_us:
        return f"data-bound: the data loader's call is {data} of a {step} step; the trace holds no device"
    return (
        "undetermined: the trace holds no device, so whether the host holds one up cannot be known; of a"
        f" {step} step operators are {_share_of_step(figures, figures.operator_us)}, collectives"
        f" {_share_of_step(figures, figures.collective_us)}, data {data}"
    )


def _loader_alone(evidence: Evidence, trace: TraceFigures) -> Measured:
    share = trace.data_us / trace.step_us
    text = f"{format_share(share)} of {_basis(evidence)}: the data loader's call; the trace holds no device."
    return Measured(share, text, share)


def _measured(evidence: Evidence, column: str, words: str) -> Measured | None:
    """Return the share of the step that a column of the trace's steps takes, with what there is to save."""
    assert evidence.trace is not None
    saved: pd.Series[float] = evidence.trace.each[column].reindex(evidence.times.index)
    whole = float(evidence.step_ms.sum())
    if not whole > 0 or saved.isna().any():
        return None
    share = float(saved.sum()) / whole
    return Measured(share, f"{format_share(share)} of {_basis(evidence)}: {words}", saved)


def _basis(evidence: Evidence) -> str:
    return f"a {format_ms(evidence.mean_step_ms)} step over {evidence.basis}"


def _share_of_step(figures: TraceFigures, microseconds: float) -> str:
    return format_share(microseconds / figures.step_us)


def _us(microseconds: float) -> str:
    return format_ms(microseconds / 1000)
