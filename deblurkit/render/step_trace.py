"""The timed steps of a profile as a Chrome trace, for Perfetto (ui.perfetto.dev) or chrome://tracing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from deblurkit.render.trace_events import TraceEvent, name_event, slice_event
from deblurkit.training.profiling.partition import flame
from deblurkit.training.profiling.records import StepProfile

_PROCESS, _TRACK = 1, 1


def profile_as_trace(profile: StepProfile) -> str:
    """Return a JSON document of the bars of every timed step: step, phase, rows; microseconds from the first.

    Where the backward passes of two rows take turns, the bars show whose turn it is.
    """
    names = {"process_name": "deblurkit profile-step", "thread_name": profile.subject.device_name}
    events = [name_event(kind, name, process=_PROCESS, track=_TRACK) for kind, name in names.items()]
    for number, timeline in enumerate(profile.timelines, start=1):
        if timeline:
            events.append(_bar(f"step {number}", timeline[0].begin[0], timeline[-1].end[0], "step"))
            events += _bars(timeline)
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": events}, ensure_ascii=False)


def _bars(timeline: Any) -> Iterator[TraceEvent]:
    for bar in flame(timeline):
        category = "phase" if len(bar.path) == 1 else "module"
        yield _bar(bar.path[-1], bar.begin[0], bar.end[0], category, path="/".join(bar.path))


def _bar(name: str, begin: float, end: float, category: str, **facts: str) -> TraceEvent:
    return slice_event(
        name, 1e6 * begin, 1e6 * (end - begin), process=_PROCESS, track=_TRACK, category=category, **facts
    )
