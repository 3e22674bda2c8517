"""What changed from one log to another, phase by phase, with intervals."""

from __future__ import annotations

from deblurkit.analysis.compare import Comparison
from deblurkit.analysis.compare_steps import RowChange
from deblurkit.analysis.matched_rows import ALL_ELSE
from deblurkit.render.analysis_page import colours
from deblurkit.render.analysis_page.figure import FRAME, Figure, axis, layout, named_axis
from deblurkit.render.analysis_page.plain import in_plot, numbers

_MOST_ROWS = 20
_BAR = 30  # pixels
_LABEL = 36  # columns of a name


def comparison_figure(comparison: Comparison) -> Figure | None:
    """Return the phases' changes from A to B as bars, with their 95 % intervals; None without phases."""
    rows = [row for row in comparison.steps.rows if row.difference is not None][:_MOST_ROWS]
    if not rows:
        return None
    changes = [row.difference for row in rows if row.difference is not None]
    labels = [_label(row) for row in rows]
    data = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(rows))),
        "x": numbers([change.value for change in changes]),
        "marker": {"color": [_colour(row) for row in rows]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": numbers([_reach(change.high, change.value) for change in changes]),
            "arrayminus": numbers([_reach(change.value, change.low) for change in changes]),
            "color": colours.INK,
            "thickness": 1.2,
        },
        "text": [f"{label}: {row.verdict}" for label, row in zip(labels, rows, strict=True)],
        "textposition": "none",
        "hovertemplate": "%{text}, %{x:+,.4~g} ms<extra></extra>",
    }
    per = comparison.steps.per
    own = layout(
        height=FRAME + _BAR * len(rows),
        xaxis=axis(f"ms a {per}, B - A", zeroline=True, zerolinecolor=colours.SOFT),
        yaxis=named_axis(labels),
        bargap=0.35,
    )
    about = "Red: slower in B. Blue: faster. Grey: not shown to differ. Lines are 95 % intervals."
    return Figure("Change of each phase", about, [data], own)


def _label(row: RowChange) -> str:
    names = dict.fromkeys((*row.names_a, *row.names_b))
    return in_plot(row.key if row.key == ALL_ELSE else " / ".join(names), columns=_LABEL)


def _colour(row: RowChange) -> str:
    return {"slower": "#d98880", "faster": "#7fb3d5"}.get(row.verdict, colours.REST)


def _reach(upper: float | None, lower: float | None) -> float:
    return 0.0 if upper is None or lower is None else max(0.0, upper - lower)
