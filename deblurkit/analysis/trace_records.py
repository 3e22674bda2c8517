"""What a trace's events come to in memory: a few arrays, one set for each kind of event that counts."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deblurkit.analysis.trace_intervals import Floats, outermost
from deblurkit.analysis.trace_stream import TraceEvent
from deblurkit.timing.partition import role_of

KERNEL, COPY, FILL = "kernel", "copy", "fill"
RUNTIME, OPERATOR, ANNOTATION = "runtime", "operator", "annotation"
STEP, DATA, COLLECTIVE = "step", "data", "collective"
DEVICE = (KERNEL, COPY, FILL)
KINDS = (*DEVICE, RUNTIME, OPERATOR, ANNOTATION, STEP, DATA, COLLECTIVE)
_CATEGORIES = {  # of today's Kineto and of the one before 2022, in lower case
    "kernel": KERNEL,
    "gpu_memcpy": COPY,
    "memcpy": COPY,
    "gpu_memset": FILL,
    "memset": FILL,
    "runtime": RUNTIME,
    "cpu_op": OPERATOR,
    "operator": OPERATOR,
    "user_annotation": ANNOTATION,
}
_RUNTIMES = ("_runtime", "_driver")  # cuda_runtime, cuda_driver, hip_runtime, xpu_runtime …
_STEP = re.compile(r"ProfilerStep#(\d{1,15})$")
_LOADER = re.compile(r"enumerate\(\w*DataLoader\w*\)|\w*DataLoader\w*\.__next__")
# All-to-all, send and receive count as operators on the host, as in TensorBoard's overview.
_COLLECTIVE = re.compile(
    r"\w+:_?(?:broadcast|all_?reduce|reduce|all_?gather|reduce_?scatter|barrier)(?:_\w+)?$", re.IGNORECASE
)
_MOST_OPERATORS = 1 << 16


@dataclass
class Spans:
    """Events of one kind, 36 bytes each: microseconds, and what their numbers stand for in `TraceRecords`."""

    start: array[float]
    duration: array[float]
    name: array[int]
    lane: array[int]
    correlation: array[int]

    @classmethod
    def empty(cls) -> Spans:
        """Return a set without events."""
        return cls(array("d"), array("d"), array("i"), array("i"), array("q"))

    def __len__(self) -> int:
        return len(self.start)

    def intervals(self, zero: float) -> Floats:
        """Return starts and ends, (N, 2), counted from ``zero``."""
        starts = np.asarray(self.start) - zero
        return np.column_stack((starts, starts + np.asarray(self.duration)))

    def keep(self, chosen: npt.NDArray[np.int64]) -> None:
        """Keep the events with these indices only, in this order."""
        for column in (self.start, self.duration, self.name, self.lane, self.correlation):
            values = np.asarray(column)[chosen]
            del column[:]
            column.frombytes(values.tobytes())


class TraceRecords:
    """The events of one trace.

    Attributes:
        spans: by kind. Of nested operators only the outermost are kept where there are many.
        names: by the numbers in ``Spans.name``.
        first: when the first event begins; 0 without any.
    """

    def __init__(self, windows: Iterable[Iterable[TraceEvent]]) -> None:
        self.spans = {kind: Spans.empty() for kind in KINDS}
        self._numbers: dict[str, int] = {}
        self._lanes: dict[tuple[str, str], int] = {}
        self._places: dict[tuple[str, str], tuple[Spans | None, int]] = {}
        most = _MOST_OPERATORS
        for events in windows:
            self._add(events)
            if len(self.spans[OPERATOR]) > most:
                most = self._drop_inner_operators() + _MOST_OPERATORS
        self.names = tuple(self._numbers)
        starts = [float(np.min(spans.start)) for spans in self.spans.values() if len(spans)]
        self.first = min(starts, default=0.0)

    def __len__(self) -> int:
        return sum(map(len, self.spans.values()))

    def devices(self) -> int:
        """Return how many devices the kernels ran on."""
        lanes = list(self._lanes)
        return len({lanes[lane][0] for lane in set(self.spans[KERNEL].lane)})

    def _add(self, events: Iterable[TraceEvent]) -> None:
        places, lanes = self._places, self._lanes
        for category, name, process, thread, start, duration, correlation in events:
            spans, number = places.get((category, name)) or self._new_place(category, name)
            if spans is not None:
                spans.start.append(start)
                spans.duration.append(duration)
                spans.name.append(number)
                spans.lane.append(lanes.setdefault((process, thread), len(lanes)))
                spans.correlation.append(correlation)

    def _new_place(self, category: str, name: str) -> tuple[Spans | None, int]:
        kind = kind_of(category, name)
        number = self._numbers.setdefault(name, len(self._numbers)) if kind else 0
        place = (self.spans[kind] if kind else None, number)
        self._places[category, name] = place
        return place

    def _drop_inner_operators(self) -> int:
        """Keep the outermost operators of each thread, and return how many these are."""
        spans = self.spans[OPERATOR]
        spans.keep(outermost(spans.intervals(0.0), np.asarray(spans.lane, dtype=np.int64)))
        return len(spans)


def kind_of(category: str, name: str) -> str | None:
    """Return which of `KINDS` an event is; None for one that is not looked at."""
    category = category.lower()
    kind = RUNTIME if category.endswith(_RUNTIMES) else _CATEGORIES.get(category)
    if kind not in (OPERATOR, ANNOTATION):
        return kind
    if _STEP.match(name):
        return STEP
    if _LOADER.match(name) or (kind == ANNOTATION and role_of(name.strip("# ")) == "data"):
        return DATA
    return COLLECTIVE if _COLLECTIVE.match(name) else kind


def step_number(name: str) -> int:
    """Return the number in the name of a `STEP`."""
    return int(name.rpartition("#")[2])
