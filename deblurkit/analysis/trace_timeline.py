"""A trace on one clock: what ran when, which call launched it, which call waited for it, and the steps."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deblurkit.analysis.trace_intervals import Floats, union
from deblurkit.analysis.trace_records import (
    ANNOTATION,
    COLLECTIVE,
    COPY,
    DATA,
    DEVICE,
    FILL,
    KERNEL,
    OPERATOR,
    RUNTIME,
    STEP,
    TraceRecords,
    step_number,
)

Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

_COMMUNICATION = re.compile(
    r"[nr]ccl|nvshmem|(?<![a-z])(?:all_?reduce|all_?gather|reduce_?scatter|all_?to_?all)", re.IGNORECASE
)
_WAITING = re.compile(r"Synchronize|^(?:cuda|hip)Free$|^cuMemFree")
_COPYING = re.compile(r"Memcpy")
_FEWEST_LAUNCHES = 0.05  # of all: a thread with fewer does not keep the device busy, and may wait as it likes


@dataclass(frozen=True)
class Timeline:
    """A trace in microseconds since its first event; sets of intervals are disjoint unless said otherwise.

    Attributes:
        numbers: of the steps, in their order.
        steps: what belongs to each step, (S, 2): from the host's start of it, or the end of the step before
            on the device, to its end on the host or on the device, whichever is later.
        annotated: whether the profiler marked the steps; else the whole trace is one.
        kernels, communication, computing: of the device; kernels that communicate, and all other ones.
        copies: copies and fills on the device.
        collectives, runtime, data, operators: on the host, in any thread; ``data`` only in the thread of the
            steps, where that is known; ``operators`` with annotations.
        waits: calls of the runtime that wait for the device, in threads that launch work.
        wait_calls: indices of these calls among the runtime's, in no order.
        device: all that ran on the device, by its start; not disjoint.
        launched: when the call that launched each of ``device`` began; NaN unknown.
    """

    numbers: tuple[int, ...]
    steps: Floats
    annotated: bool
    kernels: Floats
    communication: Floats
    computing: Floats
    copies: Floats
    collectives: Floats
    runtime: Floats
    data: Floats
    operators: Floats
    waits: Floats
    wait_calls: Indices
    device: Floats
    launched: Floats

    @property
    def launches_known(self) -> bool:
        """Whether most of the work on the device can be traced back to the call that launched it."""
        return bool(np.isfinite(self.launched).mean() > 0.5) if len(self.launched) else False


def timeline(records: TraceRecords) -> Timeline:
    """Return the timeline of a trace with at least one event."""
    links = _Links(records)
    intervals = {kind: spans.intervals(records.first) for kind, spans in records.spans.items()}
    communicates = _named(records, KERNEL, _COMMUNICATION)
    waiting = links.waiting()
    numbers, ranges, lane = _annotated_steps(records, intervals[STEP])
    own_thread = np.asarray(records.spans[DATA].lane) == lane if numbers else slice(None)
    if numbers:
        numbers, steps = _with_device(numbers, ranges, links.device, links.launched)
    else:
        steps = _whole(intervals)
    return Timeline(
        numbers=numbers or (1,),
        steps=steps,
        annotated=bool(numbers),
        kernels=union(intervals[KERNEL]),
        communication=union(intervals[KERNEL][communicates]),
        computing=union(intervals[KERNEL][~communicates]),
        copies=union(intervals[COPY], intervals[FILL]),
        collectives=union(intervals[COLLECTIVE]),
        runtime=union(intervals[RUNTIME]),
        data=union(intervals[DATA][own_thread]),
        operators=union(intervals[OPERATOR], intervals[ANNOTATION]),
        waits=union(intervals[RUNTIME][waiting]),
        wait_calls=waiting,
        device=links.device,
        launched=links.launched,
    )


class _Links:
    """What was launched by which call, by the numbers that both bear."""

    def __init__(self, records: TraceRecords) -> None:
        zero = records.first
        self._records = records
        self._calls = records.spans[RUNTIME].intervals(zero)
        parts = [records.spans[kind] for kind in DEVICE]
        device = np.concatenate([part.intervals(zero) for part in parts])
        order = np.argsort(device[:, 0], kind="stable")
        self.device = device[order]
        self._correlation = np.concatenate([_integers(part.correlation) for part in parts])[order]
        self._launcher = _lookup(_integers(records.spans[RUNTIME].correlation), self._correlation)
        known = self._launcher >= 0
        self.launched = np.full(len(device), np.nan)
        self.launched[known] = self._calls[self._launcher[known], 0]

    def waiting(self) -> Indices:
        """Return the calls that wait for the device, in threads that keep it busy."""
        copying = _named(self._records, RUNTIME, _COPYING)
        waits = _named(self._records, RUNTIME, _WAITING) | (copying & self._returns_late())
        return np.flatnonzero(waits & self._of_launching_thread())

    def _returns_late(self) -> Flags:
        """Return which calls end no sooner than what they launched: they waited for it."""
        done = np.full(len(self._calls), np.inf)
        known = self._launcher >= 0
        done[self._launcher[known]] = self.device[known, 1]
        return self._calls[:, 1] >= done

    def _of_launching_thread(self) -> Flags:
        lanes = _integers(self._records.spans[RUNTIME].lane)
        launches = lanes[self._launcher[self._launcher >= 0]]
        if not len(launches):
            return np.ones(len(lanes), dtype=bool)
        counts = np.bincount(launches, minlength=int(lanes.max()) + 1)
        return (counts > _FEWEST_LAUNCHES * len(launches))[lanes]


def _integers(values: object) -> Indices:
    return np.asarray(values, dtype=np.int64)


def _lookup(keys: Indices, wanted: Indices) -> Indices:
    """Return the index of the first of ``keys`` that equals each of ``wanted``; -1 for none, or below 0."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    place = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    index = order[place]
    return np.where((keys[index] == wanted) & (wanted >= 0), index, -1)


def _named(records: TraceRecords, kind: str, pattern: re.Pattern[str]) -> Flags:
    """Return which events of a kind have a name in which ``pattern`` is found."""
    flags = np.array([pattern.search(name) is not None for name in records.names] or [False])
    return flags[_integers(records.spans[kind].name)]


def _annotated_steps(records: TraceRecords, intervals: Floats) -> tuple[tuple[int, ...], Floats, int]:
    """Return the numbers, the host's ranges and the thread of the steps: of that which has most of them."""
    spans = records.spans[STEP]
    if not len(spans):
        return (), intervals, -1
    lanes = _integers(spans.lane)
    lane = int(np.bincount(lanes).argmax())
    own = np.flatnonzero((lanes == lane) & (intervals[:, 1] > intervals[:, 0]))
    own = own[np.argsort(intervals[own, 0], kind="stable")]
    numbers = [step_number(records.names[spans.name[index]]) for index in own]
    firsts = np.sort(np.unique(numbers, return_index=True)[1])  # a step may be there in two categories
    return tuple(numbers[first] for first in firsts), intervals[own[firsts]], lane


def _with_device(
    numbers: tuple[int, ...], ranges: Floats, device: Floats, launched: Floats
) -> tuple[tuple[int, ...], Floats]:
    """Return the steps, each up to the end of what it launched, and none before the last one ended."""
    steps = ranges.copy()
    reached = -np.inf
    for step in steps:
        own = device[(launched >= step[0]) & (launched < step[1]), 1]
        step[0] = max(step[0], reached)
        step[1] = reached = max(step[0], step[1], own.max(initial=-np.inf))
    left = np.flatnonzero(steps[:, 1] > steps[:, 0])
    return tuple(numbers[index] for index in left), steps[left]


def _whole(intervals: dict[str, Floats]) -> Floats:
    spans = np.concatenate(list(intervals.values()))
    return np.array([[spans[:, 0].min(), spans[:, 1].max()]])
