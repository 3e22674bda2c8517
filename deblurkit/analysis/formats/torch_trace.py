"""Reader of PyTorch's profiler traces (Kineto's JSON), of today's form and of the one before 2022."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pandas as pd

from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.tables import RunLog, StepRows
from deblurkit.analysis.trace_figures import figures, partition
from deblurkit.analysis.trace_intervals import Floats
from deblurkit.analysis.trace_records import DEVICE, OPERATOR, STEP, TraceRecords
from deblurkit.analysis.trace_stream import TraceStream
from deblurkit.analysis.trace_timeline import Timeline, timeline
from deblurkit.errors import DeblurkitError
from deblurkit.units import plural

_KINETO_EVENT = re.compile(
    rb'"cat"\s*:\s*"(?:cpu_op|user_annotation|kernel|cuda_runtime|Operator|Kernel|Runtime)"'
)
_EPOCH_US = 1e14  # times above it are microseconds since 1970; traces before 2023 give these


def looks_like_torch_trace(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a trace: an object with events, or their list."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"{"):
        return b'"traceEvents"' in head or (b'"schemaVersion"' in head and b'"deviceProperties"' in head)
    return start.startswith(b"[") and _KINETO_EVENT.search(head) is not None


def read_torch_trace(file: BinaryIO, *, source: str) -> RunLog:
    """Return the steps of a profiler's trace; what is damaged or cut off is left out, and said.

    Args:
        file: at its beginning; it is read once.
        source: what errors and the report call the trace.

    Raises:
        DeblurkitError: if it holds no operator, no kernel and no step.
    """
    stream = TraceStream(file)
    records = TraceRecords(stream.events())
    if not any(len(records.spans[kind]) for kind in (*DEVICE, OPERATOR, STEP)):
        raise DeblurkitError(
            f"{source}: a trace without operators, kernels or steps of PyTorch's profiler; expected what"
            f" `torch.profiler` exports, {plural(stream.damaged, 'event')} could not be read: check that the"
            " file was copied whole"
        )
    line = timeline(records)
    info = stream.members.get("distributedInfo")
    rows = partition(line)
    steps, times = _frames(line, rows, _zero_unix_s(stream.members, records))
    return RunLog(
        source=source,
        format="torch-trace",
        steps=steps,
        times=times,
        num_steps=len(steps),
        damaged_lines=stream.damaged,
        notes=tuple(_notes(line, records, stream.why_cut)),
        rank=_whole_number(info, "rank"),
        world_size=_whole_number(info, "world_size"),
        trace=figures(line, records, rows, is_whole=stream.why_cut is None),
    )


def _frames(
    line: Timeline, rows: Mapping[str, Floats], zero_unix_s: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    gathered = StepRows()
    for index, (number, (start, end)) in enumerate(zip(line.numbers, line.steps.tolist(), strict=True)):
        values = {name: float(column[index]) / 1000 for name, column in rows.items()}
        gathered.add(number, (end - start) / 1000, values, wall_known=True)
    steps, times = gathered.frames()
    steps["unix_s"] = zero_unix_s + line.steps[:, 1] / 1e6
    return steps, times


def _zero_unix_s(members: Mapping[str, Any], records: TraceRecords) -> float:
    """Return the wall clock at the trace's first event; NaN where the trace does not tell."""
    base, first = members.get("baseTimeNanoseconds"), records.first
    if first > _EPOCH_US:
        return first / 1e6
    if isinstance(base, bool) or not isinstance(base, (int, float)) or not 0 < base < 1e19:
        return math.nan
    return base / 1e9 + first / 1e6


def _notes(line: Timeline, records: TraceRecords, why_cut: str | None) -> Iterator[str]:
    if why_cut is not None:
        yield (
            f"The trace is cut off ({why_cut}): what is whole was used, but work of any step may be missing."
            " Its times may be too short, and no cause is looked for."
        )
    if not line.annotated:
        yield "The trace marks no steps, as where `profiler.step()` is not called: all of it is one step."
    if not len(line.kernels):
        yield (
            "The trace holds no device: it tells which operators the host ran, not whether a device waited"
            " for it."
        )
    elif not line.launches_known:
        yield "The trace does not tell which call launched which kernel: why the device idled is not known."
    if records.devices() > 1:
        yield f"Its {records.devices()} devices count as one: busy is when any of them is."


def _whole_number(info: object, key: str) -> int | None:
    value = info.get(key) if isinstance(info, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None


FORMAT = LogFormat("PyTorch profiler trace", looks_like_torch_trace, read_torch_trace, is_binary=True)
