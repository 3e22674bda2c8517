"""The phases of the steps over the run, one upon the other."""

from __future__ import annotations

import numpy as np
import pandas as pd

from deblurkit.analysis.partition import top_level
from deblurkit.analysis.report import Report
from deblurkit.analysis.series import Floats, as_floats
from deblurkit.render.analysis_page import colours
from deblurkit.render.analysis_page.course import Course
from deblurkit.render.analysis_page.figure import Figure, Trace, axis, layout, step_axis
from deblurkit.render.analysis_page.plain import Numbers, in_plot, numbers
from deblurkit.timing.records import UNACCOUNTED
from deblurkit.units import format_ms

_MOST_PHASES = 10
_CUT = 3.0  # times the median that is shown at first
_LABEL = 36  # columns of a name in the legend


def stack_figure(report: Report, course: Course, *, points: int) -> Figure | None:
    """Return the phases over the run, at most ``2 * points`` points each; None where none was measured."""
    phases = _phases(report, course)
    if not len(phases.columns):
        return None
    drawn = course.bins(points)
    hues = colours.phase_hues(map(str, phases.columns))
    at = numbers(course.place.positions[drawn.middles], digits=12)
    means = {str(name): drawn.means(as_floats(values)) for name, values in phases.items()}
    data = [_area(name, numbers(values, digits=4), at, hues[name]) for name, values in means.items()]
    top, cut = _top(report, np.sum(list(means.values()), axis=0))
    about = f"Means of {course.size_of(drawn)} a point." if drawn.hold_several else f"{course.each}."
    about += f" Cut off at {format_ms(top)}; a double click shows all." if cut else ""
    own = layout(
        height=360,
        xaxis=step_axis(course.place),
        yaxis=axis("ms", range=[0, top]),
        hovermode="x unified",
        showlegend=True,
    )
    return Figure("Phases over the run", about, data, own)


def _phases(report: Report, course: Course) -> pd.DataFrame:
    """Return milliseconds of each phase in each step, in the log's order; the shortest ones as one."""
    rows = course.step_ms.index
    times = top_level(report.partition.times).loc[rows].fillna(0.0)
    sums = times.sum().sort_values(ascending=False, kind="stable")
    kept = set(sums[sums > 0].index[:_MOST_PHASES])
    phases = times[[name for name in times.columns if name in kept]]
    shorter = [name for name in times.columns if name not in kept and sums[name] > 0]
    if shorter:
        phases = phases.assign(**{f"{len(shorter)} shorter phases": times[shorter].sum(axis=1)})
    unaccounted = report.partition.unaccounted_ms
    if len(phases.columns) and unaccounted is not None and float(unaccounted.sum()) > 0:
        phases = phases.assign(**{UNACCOUNTED: unaccounted.loc[rows].fillna(0.0)})
    return phases


def _area(name: str, values: Numbers, at: Numbers, hue: float | None) -> Trace:
    return {
        "type": "scatter",
        "stackgroup": "step",
        "name": in_plot(name, columns=_LABEL),
        "x": at,
        "y": values,
        "mode": "lines",
        "line": {"width": 0, "shape": "hvh", "color": colours.filled(hue)},
        "fillcolor": colours.filled(hue),
        "hovertemplate": "%{fullData.name}: %{y:,.4~g} ms<extra></extra>",
    }


def _top(report: Report, sums: Floats) -> tuple[float, bool]:
    """Return up to which length the stack is shown, and whether that cuts some of it off."""
    highest = float(sums.max())
    usual = report.step_ms.get("p50", report.step_ms.get("mean", highest))
    return (_CUT * usual, True) if highest > _CUT * usual > 0 else (1.05 * highest, False)
