"""The mean step as an icicle: phases, the modules inside them, and what each keeps for itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from deblurkit.analysis.report import Report
from deblurkit.render.analysis_page import colours
from deblurkit.render.analysis_page.figure import Figure, Trace, layout
from deblurkit.render.analysis_page.plain import in_plot
from deblurkit.timing.records import UNACCOUNTED
from deblurkit.units import format_ms, format_share

_NS = 1e6  # in a millisecond: sums of whole numbers are exact, as plotly wants them
_LABEL = 60  # columns of a name
_LEAST_SHARE = 5e-4  # of the step: what is narrower than a pixel or two is put together
_STEP, _OWN = "#eef1f4", "#e6e9ed"
_BAR, _FRAME = 40, 36  # pixels


@dataclass(frozen=True)
class Bar:
    """A bar of the icicle.

    Attributes:
        key, parent: full names; the step is ``""`` and has no parent.
        label: written into it, as plotly takes it.
        ns: its width, that of the bars below it included; in nanoseconds.
        facts: what the pointer's box says, as plotly takes it.
        colour: of its area.
        level: bars above it.
    """

    key: str
    parent: str | None
    label: str
    ns: int
    facts: str
    colour: str
    level: int


def icicle_figure(report: Report, *, most: int) -> Figure | None:
    """Return the mean step as an icicle of at most about ``2 * most`` bars; None without rows.

    A bar is as wide as its inclusive time; the grey one below it is the time of its own.
    """
    widths = _widths(report)
    if not widths.get(""):
        return None
    bars = list(_bars(widths, _kept(widths, most)))
    levels = 1 + max(bar.level for bar in bars)
    own = layout(
        height=_BAR * levels + _FRAME,
        margin={"l": 0, "r": 0, "t": 32, "b": 4},
        uniformtext={"minsize": 10, "mode": "hide"},
    )
    about = (
        "As wide as the time of a part with all inside it; light grey is a part's own time. A click looks"
        " into a bar, another one on it goes back."
    )
    return Figure("Inside the mean step", about, [_trace(bars)], own)


def _trace(bars: list[Bar]) -> Trace:
    ids = {bar.key: str(number) for number, bar in enumerate(bars)}
    return {
        "type": "icicle",
        "ids": list(ids.values()),
        "parents": ["" if bar.parent is None else ids[bar.parent] for bar in bars],
        "labels": [bar.label for bar in bars],
        "values": [bar.ns for bar in bars],
        "customdata": [bar.facts for bar in bars],
        "text": [format_ms(bar.ns / _NS) for bar in bars],
        "marker": {"colors": [bar.colour for bar in bars], "line": {"width": 1, "color": "#fff"}},
        "branchvalues": "total",
        "sort": False,
        "leaf": {"opacity": 1},
        "tiling": {"orientation": "v"},
        "pathbar": {"visible": False},
        "textinfo": "label+text",
        "textposition": "middle left",
        "textfont": {"color": colours.INK},
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _widths(report: Report) -> dict[str, int]:
    """Return nanoseconds by full name, parents before children and never shorter; ``""`` is the step."""
    order = {str(name): place for place, name in enumerate(report.partition.times.columns)}
    found = {str(path): round(ms * _NS) for path, ms in report.modules["inclusive_ms"].items()}
    rows = dict(sorted(found.items(), key=lambda item: order.get(item[0].partition("/")[0], len(order))))
    if UNACCOUNTED in report.phases.index:
        rows[UNACCOUNTED] = round(float(report.phases["mean_ms"][UNACCOUNTED]) * _NS)
    inside: dict[str, int] = {}
    for path in sorted(rows, key=lambda path: -path.count("/")):
        rows[path] = max(rows[path], inside.get(path, 0))
        parent = path.rpartition("/")[0]
        inside[parent] = inside.get(parent, 0) + rows[path]
    step = round(report.step_ms.get("mean", 0.0) * _NS) if rows else 0
    return {"": max(step, inside.get("", 0)), **rows}


def _kept(widths: dict[str, int], most: int) -> set[str]:
    least = _LEAST_SHARE * widths[""]
    wide = [path for path in widths if path and widths[path] > least]
    longest = sorted(wide, key=lambda path: (-widths[path], path.count("/")))
    return set(longest[:most])


def _bars(widths: dict[str, int], kept: set[str]) -> Iterator[Bar]:
    hues = colours.phase_hues(path for path in widths if path and "/" not in path)
    inside: dict[str, list[str]] = {}
    for path in widths:
        if path in kept:
            inside.setdefault(path.rpartition("/")[0], []).append(path)
    children = Counter(path.rpartition("/")[0] for path in widths if path)
    whole = widths[""]
    yield Bar("", None, "step", whole, f"the mean step: {format_ms(whole / _NS)}", _STEP, 0)
    for path in ("", *(path for path in widths if path in kept)):
        if path:
            yield _bar(path, widths, hues)
        rest = widths[path] - sum(widths[child] for child in inside.get(path, []))
        if rest > 0 and path in inside:
            yield _own_bar(path, rest, whole, all_told=children[path] == len(inside[path]))


def _bar(path: str, widths: dict[str, int], hues: dict[str, float | None]) -> Bar:
    parent, _, name = path.rpartition("/")
    facts = f"{in_plot(path)}<br>{_time(widths[path], widths[''])}"
    colour = colours.filled(hues.get(path.partition("/")[0]), path.count("/"))
    level = 1 + path.count("/")
    return Bar(path, parent, in_plot(name, columns=_LABEL), widths[path], facts, colour, level)


def _own_bar(path: str, ns: int, whole: int, *, all_told: bool) -> Bar:
    label = ("own time" if path else "in no phase") if all_told else "own time and shorter rows"
    facts = f"{in_plot(path) or 'the step'}: {label}<br>{_time(ns, whole)}"
    level = 1 + (path.count("/") + 1 if path else 0)
    return Bar(f"{path}/", path, label, ns, facts, _OWN, level)


def _time(ns: int, whole: int) -> str:
    return f"{format_ms(ns / _NS)}, {format_share(ns / whole)} of the step"
