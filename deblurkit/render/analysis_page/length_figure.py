"""The length of each step over the run, with what stands out and what happened beside the steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deblurkit.analysis.report import Report
from deblurkit.analysis.series import Floats, as_floats
from deblurkit.render.analysis_page import colours
from deblurkit.render.analysis_page.course import Course
from deblurkit.render.analysis_page.event_strip import Strip, event_strip
from deblurkit.render.analysis_page.figure import (
    FRAME,
    Figure,
    Layout,
    Look,
    Trace,
    axis,
    banded,
    layout,
    powers_axis,
    step_axis,
)
from deblurkit.render.analysis_page.plain import in_plot, numbers
from deblurkit.units import format_ms

_PLOT, _GAP = 260, 14  # pixels
_WIDE = 8.0  # times the median that a step may take before the axis counts by powers of ten


def length_figure(report: Report, course: Course, *, points: int) -> Figure:
    """Return the length of the steps: mean and range, median, levels, outliers, events in a strip below.

    Args:
        report: on the log.
        course: its steps.
        points: at most twice as many, each with its range.
    """
    place, drawn = course.place, course.bins(points)
    strip = event_strip(report, place)
    median = report.step_ms.get("p50", report.step_ms.get("mean", 1.0))
    look = Look("", colours.STEP, colours.BAND, ",.0f" if median >= 100 else ",.3~f", " ms")
    data = banded(as_floats(course.step_ms), place, drawn, look)
    data += [*_levels(report, course), *_outliers(report, course), *strip.traces]
    about = f"Range and mean of {course.size_of(drawn)} a point" if drawn.hold_several else course.each
    own = _layout(report, course)
    return Figure("Time of a step", about + _marks(report), data, _above(strip, own) if strip.height else own)


def _marks(report: Report) -> str:
    marks = []
    if report.has_percentiles and report.step_ms:
        marks.append(f"dotted: the median, {format_ms(report.step_ms['p50'])}")
    if report.outliers:
        marks.append("diamonds: steps far off those around them")
    if report.changes:
        marks.append("broken line: the level from one change to the next")
    if report.warmup_steps:
        marks.append("grey: warm-up, left out of the figures")
    return f"; {'; '.join(marks)}." if marks else "."


def _layout(report: Report, course: Course) -> Layout:
    known = as_floats(course.step_ms.loc[report.rows])
    return layout(
        height=FRAME + _PLOT,
        xaxis=step_axis(course.place),
        yaxis=axis("ms", **_range(known)),
        shapes=[*_warmup(report, course), *_median(report), *_change_lines(report, course)],
        hovermode="closest",
    )


def _above(strip: Strip, own: Layout) -> Layout:
    """Return the layout of a plot with a strip below it on the second y axis; the x axis is both's."""
    whole = _PLOT + _GAP + strip.height
    return {
        **own,
        "height": FRAME + whole,
        "xaxis": {**own["xaxis"], "anchor": "y2"},
        "yaxis": {**own["yaxis"], "domain": [1 - _PLOT / whole, 1]},
        "yaxis2": {**strip.axis, "domain": [0, strip.height / whole]},
    }


def _range(values: Floats) -> dict[str, object]:
    """Return the axis of step lengths: by powers of ten where a few steps would press the others flat."""
    if not len(values):
        return {"rangemode": "tozero"}
    low, middle, high = float(values.min()), float(np.median(values)), float(values.max())
    if middle > 0 and low > 0 and high > _WIDE * middle:
        return powers_axis(low, high)
    return {"range": [0, 1.08 * high]}


def _warmup(report: Report, course: Course) -> Iterator[Layout]:
    positions = course.place.positions
    skipped = int(course.step_ms.index.get_indexer(report.rows[:1])[0]) if len(report.rows) else 0
    if skipped > 0:
        end = float(positions[skipped] + positions[skipped - 1]) / 2
        yield {
            "type": "rect",
            "x0": float(positions[0]),
            "x1": end,
            "y0": 0,
            "y1": 1,
            "yref": "y domain",
            "fillcolor": colours.REST,
            "opacity": 0.45,
            "line": {"width": 0},
            "layer": "below",
        }


def _median(report: Report) -> Iterator[Layout]:
    if report.has_percentiles and report.step_ms:
        line = {"color": colours.SOFT, "width": 1, "dash": "dot"}
        height = report.step_ms["p50"]
        yield {"type": "line", "x0": 0, "x1": 1, "xref": "x domain", "y0": height, "y1": height, "line": line}


def _change_lines(report: Report, course: Course) -> Iterator[Layout]:
    for change in report.changes:
        at = course.place.position_of(change.step)
        line = {"color": colours.LEVEL, "width": 1, "dash": "dash"}
        if at is not None:
            yield {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "y domain", "line": line}


def _levels(report: Report, course: Course) -> Iterator[Trace]:
    """Yield the median between the changes as a line of stairs."""
    found = [(course.place.position_of(change.step), change) for change in report.changes]
    placed = sorted(((at, change) for at, change in found if at is not None), key=lambda pair: pair[0])
    if not placed:
        return
    ends = [float(course.place.positions[0]), *(at for at, _ in placed), float(course.place.positions[-1])]
    heights = [placed[0][1].before, *(change.after for _, change in placed)]
    texts = [f"{format_ms(height)} in the median" for height in heights]
    for number, (_, change) in enumerate(placed, 1):
        row = f"; most of it in {in_plot(change.row)}" if change.row else ""
        texts[number] = f"from step {change.step:,} on {format_ms(change.after)}{row}"
    yield {
        "type": "scatter",
        "x": numbers(ends, digits=12),
        "y": numbers([*heights, heights[-1]]),
        "text": [*texts, texts[-1]],
        "mode": "lines",
        "line": {"shape": "hv", "color": colours.LEVEL, "width": 2, "dash": "dash"},
        "hovertemplate": "%{text}<extra></extra>",
    }


def _outliers(report: Report, course: Course) -> Iterator[Trace]:
    found = [(course.place.position_of(outlier.step), outlier) for outlier in report.outliers]
    placed = [(at, outlier) for at, outlier in found if at is not None]
    if placed:
        yield {
            "type": "scatter",
            "x": numbers([at for at, _ in placed], digits=12),
            "y": numbers([outlier.ms for _, outlier in placed]),
            "text": [
                f"step {outlier.step:,}: {format_ms(outlier.ms)}<br>{in_plot(outlier.row)}"
                f" +{format_ms(outlier.excess_ms)}"
                for _, outlier in placed
            ],
            "mode": "markers",
            "marker": {"symbol": "diamond", "size": 8, "color": colours.WRONG},
            "hovertemplate": "%{text}<extra></extra>",
        }
