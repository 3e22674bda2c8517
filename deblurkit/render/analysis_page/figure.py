"""What all pictures share: their type, the look of their axes, and a series as a line in its band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from deblurkit.analysis.bins import Bins
from deblurkit.analysis.run_axis import RunAxis
from deblurkit.analysis.series import Floats
from deblurkit.render.analysis_page.colours import INK, LINE, SOFT
from deblurkit.render.analysis_page.plain import numbers

Trace: TypeAlias = dict[str, Any]
Layout: TypeAlias = dict[str, Any]

FRAME = 80  # pixels of a picture's height around its plot
_FEW = 60  # points that are each worth a dot
_FEW_STEPS = 15  # that each get a tick
_MARGIN = 0.08  # of a decade, that is left free at the ends of an axis by powers of ten
_MOST_DECADES = 8  # that are worth a tick each
_BEYOND = 308  # as a power of ten no finite number
_FEW_DECADES = 2.5  # that are worth a tick at 2 and 5
_AROUND = 0.01  # of a run that is left free at its ends
FONT = 'system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif'


@dataclass(frozen=True)
class Figure:
    """A picture as plotly takes it.

    Attributes:
        title: its heading, as text.
        about: what the reader needs to know to read it, as text; may be empty.
        data: traces, as plotly takes them.
        layout: likewise; ``height`` in pixels is part of it.
    """

    title: str
    about: str
    data: list[Trace]
    layout: Layout


@dataclass(frozen=True)
class Look:
    """How a series is drawn and told.

    Attributes:
        name: in the legend and in the pointer's box, as plotly takes it; may be empty.
        line, band: colours of its line and of the range behind it.
        form: of its values in the pointer's box, as d3 takes it.
        unit: behind them, with its blank.
    """

    name: str
    line: str
    band: str
    form: str
    unit: str = ""

    @property
    def title(self) -> str:
        """What the pointer's box begins with."""
        return "%{fullData.name}<br>" if self.name else ""

    def told(self, variable: str) -> str:
        """Return how plotly is to write a variable in the pointer's box."""
        return f"%{{{variable}:{self.form}}}{self.unit}"


def layout(*, height: int, **own: Any) -> Layout:
    """Return a layout in the house's look, with what a picture sets itself."""
    common = {
        "height": height,
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "margin": {"l": 120, "r": 16, "t": 28, "b": FRAME - 28},
        "showlegend": False,
        "hoverlabel": {"namelength": -1, "align": "left", "font": {"family": FONT}},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "traceorder": "normal"},
    }
    return {**common, **own}


def axis(title: str = "", **own: Any) -> dict[str, Any]:
    """Return an axis in the house's look."""
    common = {
        "title": {"text": title, "font": {"color": SOFT, "size": 13}},
        "gridcolor": LINE,
        "linecolor": LINE,
        "zeroline": False,
        "tickfont": {"color": SOFT},
        "automargin": True,
        "exponentformat": "none",
        "separatethousands": True,
    }
    return {**common, **own}


def powers_axis(low: float, high: float) -> dict[str, Any]:
    """Return what makes an axis one by powers of ten, from below ``low`` to above ``high``, both positive."""
    start, end = math.log10(low) - _MARGIN, math.log10(high) + _MARGIN
    digits = (1, 2, 5) if end - start < _FEW_DECADES else (1,)
    decades = range(math.floor(start), math.ceil(end) + 1, 1 + int((end - start) / _MOST_DECADES))
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits if decade < _BEYOND]
    return {"type": "log", "range": [start, end], "tickvals": ticks, "tickformat": ",~g"}


def named_axis(names: Sequence[str], **own: Any) -> dict[str, Any]:
    """Return an axis of rows from the top, 0, 1 and so on, by their names as plotly takes them."""
    rows: dict[str, Any] = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": list(names)}
    return axis(**rows, range=[len(names) - 0.4, -0.6], showgrid=False, fixedrange=True, **own)


def step_axis(place: RunAxis, **own: Any) -> dict[str, Any]:
    """Return the axis along the run."""
    title = "step" if place.by_number else "step, counted in the order of the log: its own numbers repeat"
    first, last = float(place.positions[0]), float(place.positions[-1])
    around = _AROUND * (last - first) or 1.0
    ticks = {"dtick": 1} if last - first <= _FEW_STEPS else {}
    return axis(title, showgrid=False, range=[first - around, last + around], **ticks, **own)


def banded(values: Floats, place: RunAxis, bins: Bins, look: Look) -> list[Trace]:
    """Return a series as a line, with the range of the values that share a point behind it.

    Args:
        values: finite, one for each position of ``place``.
        place: where they stand.
        bins: which of them share a point.
        look: how they are drawn and told.
    """
    line = {
        "type": "scatter",
        "x": numbers(place.positions[bins.middles], digits=12),
        "y": numbers(bins.means(values)),
        "customdata": place.numbers[bins.firsts].tolist(),
        "mode": "lines+markers" if len(bins) <= _FEW else "lines",
        "marker": {"size": 5},
        "line": {"color": look.line, "width": 1.4},
        "name": look.name,
        "hovertemplate": f"{look.title}step %{{customdata:,}}<br>{look.told('y')}<extra></extra>",
    }
    return _with_band(line, values, place, bins, look) if bins.hold_several else [line]


def _with_band(line: Trace, values: Floats, place: RunAxis, bins: Bins, look: Look) -> list[Trace]:
    lows, highs = numbers(bins.lows(values)), numbers(bins.highs(values))
    steps = (place.numbers[bins.firsts].tolist(), place.numbers[bins.lasts].tolist())
    line["customdata"] = list(zip(*steps, lows, highs, strict=True))
    line["hovertemplate"] = (
        f"{look.title}steps %{{customdata[0]:,}} to %{{customdata[1]:,}}<br>mean {look.told('y')}"
        f"<br>{look.told('customdata[2]')} to {look.told('customdata[3]')}<extra></extra>"
    )
    edge = {
        "type": "scatter",
        "x": line["x"],
        "mode": "lines",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    filled = {"fill": "tonexty", "fillcolor": look.band}
    return [{**edge, "y": lows}, {**edge, "y": highs, **filled}, line]
