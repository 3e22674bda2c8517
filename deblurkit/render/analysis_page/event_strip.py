"""What happened beside the steps, as marks in a strip below a picture of the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from deblurkit.analysis.report import Report
from deblurkit.analysis.run_axis import RunAxis
from deblurkit.render.analysis_page import colours
from deblurkit.render.analysis_page.figure import Trace, named_axis
from deblurkit.render.analysis_page.plain import in_plot, numbers
from deblurkit.units import format_duration

_ROW = 24  # pixels
_MOST_KINDS = 10
_MOST_MARKS = 500  # of a kind
_BAD = ("oom", "killed", "watchdog", "nonfinite", "error", "memory-warning", "leak")
_TEXT = 100  # columns of a log's line in the pointer's box


@dataclass(frozen=True)
class Strip:
    """Marks in rows, one row a kind.

    Attributes:
        traces: on the second y axis.
        axis: that axis.
        height: pixels; 0 where there is nothing to mark.
    """

    traces: list[Trace] = field(default_factory=list)
    axis: dict[str, Any] = field(default_factory=dict)
    height: int = 0


@dataclass(frozen=True)
class Mark:
    """Something at a step.

    Attributes:
        kind: its row.
        step: after which it happened.
        text: what the pointer's box says, as plotly takes it.
    """

    kind: str
    step: int
    text: str


def event_strip(report: Report, place: RunAxis) -> Strip:
    """Return the marks of a log: events, and what it says was done beside the steps; the bad ones on top."""
    rows: dict[str, list[Mark]] = {}
    for mark in _marks(report):
        rows.setdefault(mark.kind, []).append(mark)
    placed = {kind: found for kind, marks in rows.items() if (found := _placed(marks, place))}
    kinds = sorted(placed, key=lambda kind: kind not in _BAD)[:_MOST_KINDS]
    traces = [_row(number, kind, placed[kind]) for number, kind in enumerate(kinds)]
    names = [f"{in_plot(kind, columns=24)} ({len(rows[kind]):,})" for kind in kinds]
    return Strip(traces, named_axis(names), _ROW * len(names)) if traces else Strip()


def _marks(report: Report) -> Iterator[Mark]:
    told = {event.kind for event in report.log.events}
    for event in report.log.events:
        if event.step is not None and event.kind != "start":
            lasting = f", {format_duration(event.seconds)}" if event.seconds else ""
            text = f"{event.kind} at step {event.step:,}{lasting}<br>{in_plot(event.text, columns=_TEXT)}"
            yield Mark(event.kind, event.step, text)
    for part in report.log.beside:
        if part.name.rstrip("s") not in told and part.name not in told:
            text = f"{in_plot(part.name)} after step {part.after_step:,}, {format_duration(part.seconds)}"
            yield Mark(part.name, part.after_step, text)


def _placed(marks: list[Mark], place: RunAxis) -> list[tuple[float, Mark]]:
    thinned = marks[:: -(-len(marks) // _MOST_MARKS)]
    found = [(place.position_of(mark.step), mark) for mark in thinned]
    return [(at, mark) for at, mark in found if at is not None]


def _row(number: int, kind: str, placed: list[tuple[float, Mark]]) -> Trace:
    bad = kind in _BAD
    return {
        "type": "scatter",
        "yaxis": "y2",
        "x": numbers([at for at, _ in placed], digits=12),
        "y": [number] * len(placed),
        "text": [mark.text for _, mark in placed],
        "mode": "markers",
        "marker": {
            "symbol": "x" if bad else "line-ns-open",
            "size": 9,
            "color": colours.WRONG if bad else colours.SOFT,
        },
        "hovertemplate": "%{text}<extra></extra>",
    }
