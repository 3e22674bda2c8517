"""Where the time of a step goes: waiting for data, computing, computing twice, communicating, or nowhere."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.findings import Measured
from deblurkit.analysis.partition import REST
from deblurkit.analysis.statistics import quantiles, weighted_mean
from deblurkit.timing.partition import role_of
from deblurkit.timing.records import UNACCOUNTED
from deblurkit.units import format_ms, format_share

FEED = ("data",)
COMPUTE = ("forward", "loss", "backward")
COMPUTE_BOUND = 0.8
_SLOW_FORWARD_MS = 1_500.0  # the seed's table of symptoms
_SLOW_SAMPLES_PER_SECOND = 1.0  # likewise
_BACKWARD_WITHOUT_RECOMPUTE = 2.0  # backward / forward of a network that keeps its activations
_RECOMPUTE = frozenset(("recompute", "重计算", "recomputation"))
_BUSY_CPU = 0.85  # the seed's list of checks
_FEWEST_PRINTED = 10
_STALLED = 5.0
_FEWEST_MEASURED = 5


def data_wait(evidence: Evidence) -> Measured | None:
    """Measure the share of the step that waits for data."""
    share = feed_share(evidence)
    if share is None:
        return None
    parts = [_feed_row(name, evidence) for name in evidence.shares if role_of(name) in FEED]
    saved: pd.Series[float] | float = evidence.ms_of_each(*FEED)
    if not parts:
        parts, saved = [f"the log prints {format_ms(share * evidence.mean_step_ms)} in the median"], share
    text = (
        f"{format_share(share)} of a {format_ms(evidence.mean_step_ms)} step over {evidence.basis}:"
        f" {'; '.join(parts)}."
    )
    busy = evidence.scalar("cpu_utilisation")
    load = float(busy["value"].median()) if busy is not None else 0.0
    if load <= _BUSY_CPU:
        return Measured(share, text, saved)
    return Measured(share, f"{text} The CPU is {format_share(load)} busy.", saved, advice="busy-cpu")


def feed_share(evidence: Evidence) -> float | None:
    """Return the share of the step that waits for data; None where the log does not show a whole step."""
    computes = evidence.has("forward") and evidence.has("backward")
    whole_step = evidence.wall_known or computes or REST in evidence.shares
    if whole_step and any(map(evidence.has, FEED)):
        return evidence.share(*FEED)
    printed = evidence.scalar("data_ms")
    if printed is None or not evidence.wall_known or not evidence.mean_step_ms > 0:
        return None
    return float(printed["value"].median()) / evidence.mean_step_ms


def slow_compute(evidence: Evidence) -> Measured | None:
    """Measure by how much computing is slower than the seed's limits, where it is what a step consists of."""
    if not (evidence.has("forward") and evidence.has("backward")):
        return None
    compute = evidence.share(*COMPUTE)
    if compute < COMPUTE_BOUND:
        return None
    forward, rate = _forward_ms(evidence), evidence.samples_per_second
    slower = max(forward / _SLOW_FORWARD_MS, 0.0 if not rate else _SLOW_SAMPLES_PER_SECOND / rate)
    speed = "" if rate is None else f", at {rate:.2f} samples a second"
    each = "a sample" if _samples_of_a_rank(evidence) else "a step"
    text = (
        f"forward, loss and backward are {format_share(compute)} of a {format_ms(evidence.mean_step_ms)}"
        f" step over {evidence.basis}; forward takes {format_ms(forward)} {each}{speed}."
    )
    return Measured(slower, text, evidence.ms_of_each(*COMPUTE))


def _forward_ms(evidence: Evidence) -> float:
    """Return the milliseconds of a forward pass for one sample, or for a step where samples are unknown."""
    return evidence.ms("forward") / (_samples_of_a_rank(evidence) or 1)


def _samples_of_a_rank(evidence: Evidence) -> float | None:
    log = evidence.log
    if log is None or log.samples_per_step is None:
        return None
    return log.samples_per_step / (log.world_size or 1)


def backward_ratio(evidence: Evidence) -> Measured | None:
    """Measure how many times as long as forward backward takes, less what it waits for other ranks."""
    forward, backward = evidence.ms("forward"), evidence.ms("backward")
    if forward <= 0 or not evidence.has("backward"):
        return None
    waiting = sum(weighted for _, weighted in _exposed_inside(evidence))
    ratio = (backward - waiting) / forward
    each, measured = _recomputed(evidence, waiting)
    spent = weighted_mean(each, evidence.weights)
    how = "measured" if measured else f"backward less {_BACKWARD_WITHOUT_RECOMPUTE:.0f} x forward"
    less = f", {format_ms(waiting)} of it waiting for other ranks," if waiting > 0 else ""
    tail = "" if waiting > 0 or measured else ", less what waits for other ranks inside backward"
    text = (
        f"backward takes {format_ms(backward)}{less} and forward {format_ms(forward)}, a ratio of {ratio:.2f}"
        f" over {evidence.basis}; without recomputation it is near 2. About {format_ms(spent)} a step ({how})"
        f" goes into computing activations again{tail}."
    )
    return Measured(ratio, text, each)


def _recomputed(evidence: Evidence, waiting: float) -> tuple[pd.Series[float], bool]:
    """Return the milliseconds of each step spent computing again, and whether they were measured."""
    paths = [name for name in evidence.times if str(name).rpartition("/")[2].casefold() in _RECOMPUTE]
    if paths:
        return evidence.times[paths].sum(axis=1), True
    forward, backward = evidence.ms_of_each("forward"), evidence.ms_of_each("backward")
    return backward - waiting - _BACKWARD_WITHOUT_RECOMPUTE * forward, False


def exposed_communication(evidence: Evidence) -> Measured | None:
    """Measure the share of the step in which ranks exchange gradients and compute nothing."""
    whole = [name for name in evidence.shares if role_of(name) == "all_reduce"]
    rows = [*_exposed_inside(evidence), *((name, evidence.ms_of(name)) for name in whole)]
    if not rows or not evidence.mean_step_ms > 0:
        return None
    share = sum(ms for _, ms in rows) / evidence.mean_step_ms
    named = ", ".join(f"{name} {format_ms(ms)}" for name, ms in rows)
    text = (
        f"{format_share(share)} of a {format_ms(evidence.mean_step_ms)} step over {evidence.basis} is"
        f" communication that nothing is computed beside: {named}."
    )
    each = evidence.times[[name for name, _ in rows]]
    return Measured(share, text, each.fillna(each.mean()).sum(axis=1))


def _exposed_inside(evidence: Evidence) -> Iterator[tuple[str, float]]:
    """Yield the rows of communication inside a phase and their mean over the steps that measured them [ms].

    torch measures it in the first ten steps and in one of a hundred after that.
    """
    for path in map(str, evidence.times.columns):
        parent, _, name = path.rpartition("/")
        if parent and "/" not in parent and role_of(name) == "all_reduce":
            measured = evidence.times[path].dropna()
            if len(measured) >= _FEWEST_MEASURED:
                yield path, float(measured.mean())


def unaccounted(evidence: Evidence) -> Measured | None:
    """Measure the share of the wall time that no phase covers; None where a log times no computing at all."""
    share = evidence.shares.get(UNACCOUNTED)
    if evidence.unaccounted_ms is None or share is None or not times_computing(evidence):
        return None
    if evidence.trace is not None:  # a profiler sees all but plain Python, and no scope is missing there
        return None
    text = (
        f"{format_ms(share * evidence.mean_step_ms)} of a {format_ms(evidence.mean_step_ms)} step"
        f" ({format_share(share)}) lie in no phase, over {evidence.basis}."
    )
    return Measured(share, text, evidence.unaccounted_ms)


def times_computing(evidence: Evidence) -> bool:
    """Return whether a log splits what is not waiting for data."""
    whole, beside = {UNACCOUNTED, REST}, {"data", "transfer"}
    return any(name not in whole and role_of(name) not in beside for name in evidence.shares)


def printed_too_short(evidence: Evidence) -> Measured | None:
    """Measure the share of the time between a log's timestamps that the times it prints leave out."""
    pairs = _printed_beside_wall(evidence)
    if pairs is None:
        return None
    printed, wall = float(pairs["value"].mean()), float(pairs["wall"].mean())
    share = 1 - printed / wall
    text = (
        f"the log prints {format_ms(printed)} a step and its own timestamps are {format_ms(wall)} apart, over"
        f" {len(pairs):,} lines: {format_share(share)} of the time is in no figure."
    )
    return Measured(share, text, max(0.0, share), advice="printed")


def _printed_beside_wall(evidence: Evidence) -> pd.DataFrame | None:
    """Return the printed and the true length of steps that did not stall: ``value`` and ``wall`` [ms]."""
    printed = evidence.scalar("printed_ms")
    if printed is None or not evidence.wall_known:
        return None
    wall = pd.DataFrame({"step": evidence.step_numbers, "wall": evidence.step_ms}).dropna()
    usual = wall[wall["wall"] <= _STALLED * wall["wall"].median()]
    told = printed[["step", "value"]].dropna().drop_duplicates("step", keep="last")
    pairs = told.merge(usual.drop_duplicates("step", keep="last"), on="step")
    if len(pairs) < _FEWEST_PRINTED or not math.isfinite(float(np.sum(pairs["wall"]))):
        return None
    return pairs


def _feed_row(name: str, evidence: Evidence) -> str:
    mean = f"{name} takes {format_ms(evidence.ms_of(name))} on average"
    if evidence.is_summary:
        return mean
    middle, high = quantiles(evidence.times[name].dropna(), (0.5, 0.95))
    return f"{mean}, {format_ms(middle)} in the median and {format_ms(high)} at the 95th percentile"
