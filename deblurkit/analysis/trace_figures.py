"""From a trace's timeline to a partition of each step, and to the figures that tell what limits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from deblurkit.analysis.tables import TraceFigures
from deblurkit.analysis.trace_idle import idle_causes
from deblurkit.analysis.trace_intervals import (
    EMPTY,
    Floats,
    length_within,
    outermost,
    overlap,
    union,
    without,
)
from deblurkit.analysis.trace_records import KERNEL, OPERATOR, RUNTIME, TraceRecords
from deblurkit.analysis.trace_timeline import Flags, Indices, Timeline

KERNELS, COPIES, COLLECTIVES = "kernels", "copies", "collectives"
RUNTIME_CALLS, DATA, OPERATORS = "runtime", "data", "operators"
EXPOSED, WAITING = "kernels/communication alone", "runtime/waiting"
_MOST_KERNELS = 20
_MOST_WAITS = 10
_LONGEST_NAME = 80
Row = tuple[str, float, float]


def partition(line: Timeline) -> dict[str, Floats]:
    """Return the microseconds of each step by row; each moment counts for the first row that covers it.

    ``kernels/communication alone`` and ``runtime/waiting`` lie inside their parents; the others are disjoint.
    Rows of which the trace holds nothing are left out.
    """
    layers = {
        KERNELS: line.kernels,
        COPIES: line.copies,
        COLLECTIVES: line.collectives,
        RUNTIME_CALLS: line.runtime,
        DATA: line.data,
        OPERATORS: line.operators,
    }
    covered = EMPTY
    rows: dict[str, Floats] = {}
    for name, spans in layers.items():
        own = without(spans, covered)
        if len(spans):
            rows[name] = length_within(own, line.steps)
        if name == RUNTIME_CALLS and len(line.waits):
            rows[WAITING] = length_within(overlap(own, line.waits), line.steps)
        covered = union(covered, spans)
    if len(line.communication):
        rows[EXPOSED] = length_within(exposed_communication(line), line.steps)
    return rows


def exposed_communication(line: Timeline) -> Floats:
    """Return when the device communicates and does nothing else."""
    return without(without(line.communication, line.computing), line.copies)


def figures(
    line: Timeline, records: TraceRecords, rows: Mapping[str, Floats], *, is_whole: bool = True
) -> TraceFigures:
    """Return the figures of a trace whose `partition` is ``rows``; ``is_whole`` if it was not cut off."""
    lengths = line.steps[:, 1] - line.steps[:, 0]
    idle = idle_causes(line)
    communication = _mean(length_within(line.communication, line.steps))
    exposed = rows.get(EXPOSED, np.zeros(len(lengths)))
    has_device = len(line.kernels) > 0

    def mean(name: str) -> float:
        return _mean(rows[name]) if name in rows else 0.0

    return TraceFigures(
        steps=len(lengths),
        step_us=_mean(lengths),
        kernel_us=mean(KERNELS),
        communication_us=communication,
        exposed_communication_us=_mean(exposed),
        copy_us=mean(COPIES),
        data_us=mean(DATA),
        runtime_us=mean(RUNTIME_CALLS),
        operator_us=mean(OPERATORS),
        busy_share=mean(KERNELS) / _mean(lengths) if has_device else None,
        launch_gap_us=_mean(idle.late),
        sync_us=_mean(length_within(line.waits, line.steps)),
        overlap_share=1 - _mean(exposed) / communication if communication > 0 else None,
        has_device=has_device,
        kernels=_kernels(line, records),
        waits=_waits(line, records),
        collective_us=mean(COLLECTIVES),
        idle_us=_mean(idle.whole),
        data_gap_us=_mean(idle.data),
        sync_gap_us=_mean(idle.waiting),
        launches_known=line.launches_known,
        is_whole=is_whole,
        each=pd.DataFrame(
            {
                "step": lengths,
                "data_gap": idle.data,
                "sync_gap": idle.waiting,
                "launch_gap": idle.late,
                "exposed_communication": exposed,
            }
        )
        / 1000,
    )


def _kernels(line: Timeline, records: TraceRecords) -> tuple[Row, ...]:
    spans = records.spans[KERNEL]
    inside = _inside(line, spans.intervals(records.first)[:, 0])
    short = [short_kernel_name(name) for name in records.names]
    names = [short[number] for number in np.asarray(spans.name, dtype=np.int64)[inside]]
    return _longest(names, np.asarray(spans.duration)[inside], len(line.steps), most=_MOST_KERNELS)


def short_kernel_name(name: str) -> str:
    """Return a kernel's name without its result and parameters, and its template arguments cut short."""
    name = name.removeprefix("void ")
    if name.endswith(")"):
        name = name[: _opening(name)] or name
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _opening(name: str) -> int:
    """Return where the bracket opens that the last character closes; the length of the name if nowhere."""
    depth = 0
    for place in range(len(name) - 1, -1, -1):
        depth += (name[place] == ")") - (name[place] == "(")
        if depth == 0:
            return place
    return len(name)


def _waits(line: Timeline, records: TraceRecords) -> tuple[Row, ...]:
    spans = records.spans[RUNTIME]
    inside = line.wait_calls[_inside(line, spans.intervals(records.first)[line.wait_calls, 0])]
    callers = _callers(records, inside)
    names = [
        f"{records.names[spans.name[index]]} in {caller}" if caller else records.names[spans.name[index]]
        for index, caller in zip(inside.tolist(), callers, strict=True)
    ]
    return _longest(names, np.asarray(spans.duration)[inside], len(line.steps), most=_MOST_WAITS)


def _callers(records: TraceRecords, calls: Indices) -> list[str]:
    """Return the outermost operator in which each call of the runtime was made; nothing where in none."""
    runtime, operators = records.spans[RUNTIME], records.spans[OPERATOR]
    zero = records.first
    spans, lanes = operators.intervals(zero), np.asarray(operators.lane, dtype=np.int64)
    outer = outermost(spans, lanes)
    by_lane = {lane: outer[lanes[outer] == lane] for lane in set(lanes[outer].tolist())}
    found = []
    for start, call in zip(runtime.intervals(zero)[calls, 0].tolist(), calls.tolist(), strict=True):
        own = by_lane.get(runtime.lane[call], outer[:0])
        place = int(np.searchsorted(spans[own, 0], start, side="right")) - 1
        inside = place >= 0 and start < spans[own[place], 1]
        found.append(records.names[operators.name[own[place]]] if inside else "")
    return found


def _inside(line: Timeline, times: Floats) -> Flags:
    return (times >= line.steps[0, 0]) & (times < line.steps[-1, 1])


def _longest(names: Sequence[str], durations: Floats, steps: int, *, most: int) -> tuple[Row, ...]:
    """Return (name, microseconds a step, calls a step) by name, longest first."""
    table = pd.DataFrame({"name": names, "us": durations}).groupby("name")["us"].agg(["sum", "size"])
    table = table.sort_values("sum", ascending=False, kind="stable").head(most)
    return tuple(
        (str(name), float(us) / steps, float(calls) / steps) for name, us, calls in table.itertuples()
    )


def _mean(values: Floats) -> float:
    return float(values.mean())
