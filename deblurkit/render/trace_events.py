"""Events of Google's "Trace Event Format", which ui.perfetto.dev and chrome://tracing show.

Times are microseconds; ``process`` and ``track`` are the numbers that the format calls pid and tid.
"""

from __future__ import annotations

from typing import Any

TraceEvent = dict[str, Any]


def slice_event(
    name: str, start_us: float, length_us: float, *, process: int, track: int, category: str, **facts: Any
) -> TraceEvent:
    """Return a bar; ``facts`` are shown when it is clicked on."""
    return {
        "ph": "X",
        "pid": process,
        "tid": track,
        "cat": category,
        "name": name,
        "ts": round(start_us, 3),
        "dur": round(length_us, 3),
        **({"args": facts} if facts else {}),
    }


def name_event(kind: str, name: str, *, process: int, track: int) -> TraceEvent:
    """Return what a process (``process_name``) or a track of it (``thread_name``) is to be called."""
    return {"ph": "M", "pid": process, "tid": track, "name": kind, "args": {"name": name}}


def counter_event(name: str, moment_us: float, value: float, *, process: int) -> TraceEvent:
    """Return the value that a curve has from now on."""
    return {"ph": "C", "pid": process, "name": name, "ts": round(moment_us, 3), "args": {"value": value}}


def mark_event(name: str, moment_us: float, *, process: int, track: int, **facts: Any) -> TraceEvent:
    """Return a mark across a process."""
    return {
        "ph": "i",
        "s": "p",
        "pid": process,
        "tid": track,
        "name": name,
        "ts": round(moment_us, 3),
        "args": facts,
    }
