"""The ranks of a run side by side."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from deblurkit.analysis.report import Report
from deblurkit.render.analysis_page import colours
from deblurkit.render.analysis_page.figure import FRAME, Figure, Trace, axis, layout, named_axis
from deblurkit.render.analysis_page.plain import in_plot, numbers

SLOW = "straggler"  # the finding about a rank that the others wait for
_MOST_PHASES = 10
_BAR, _LEGEND = 30, 40  # pixels
_LABEL = 36  # columns of a name


def runs_of_ranks(reports: Iterable[Report]) -> dict[str, list[Report]]:
    """Return the reports on each run of several ranks, in their order, by the folder of its logs."""
    runs: dict[str, dict[int, Report]] = {}
    for report in reports:
        if report.log.rank is not None and len(report.phases):
            runs.setdefault(str(Path(report.source).parent), {})[report.log.rank] = report
    return {
        folder: [ranks[number] for number in sorted(ranks)]
        for folder, ranks in runs.items()
        if len(ranks) > 1
    }


def rank_figure(ranks: list[Report]) -> Figure:
    """Return the mean step of each rank as a bar of its phases."""
    longest = _longest(ranks)
    kept = {
        name for name in sorted(longest, key=lambda name: -longest[name])[:_MOST_PHASES] if longest[name] > 0
    }
    hues = colours.phase_hues(longest)
    data = [_bars(name, ranks, hues[name]) for name in longest if name in kept]
    own = layout(
        height=FRAME + _LEGEND + _BAR * len(ranks),
        barmode="stack",
        showlegend=True,
        xaxis=axis("ms, mean of a step"),
        yaxis=named_axis([_label(report) for report in ranks]),
        hovermode="closest",
    )
    about = "Ranks that wait for a slow one are as long as it is: look for the phase in which one differs."
    return Figure("Ranks side by side", about, data, own)


def _longest(ranks: list[Report]) -> dict[str, float]:
    """Return the most milliseconds that each phase takes in any rank, the phases in the order of a log."""
    order = {str(name): place for place, name in enumerate(ranks[0].partition.times.columns)}
    longest: dict[str, float] = {}
    for report in ranks:
        for name, ms in report.phases["mean_ms"].items():
            longest[str(name)] = max(longest.get(str(name), 0.0), float(ms))
    return dict(sorted(longest.items(), key=lambda item: order.get(item[0], len(order))))


def _bars(name: str, ranks: list[Report], hue: float | None) -> Trace:
    values = [float(report.phases["mean_ms"].get(name, 0.0)) for report in ranks]
    return {
        "type": "bar",
        "orientation": "h",
        "name": in_plot(name, columns=_LABEL),
        "y": list(range(len(ranks))),
        "text": [_label(report) for report in ranks],
        "textposition": "none",
        "x": numbers(values),
        "marker": {"color": colours.filled(hue)},
        "hovertemplate": "%{text}<br>%{fullData.name}: %{x:,.4~g} ms<extra></extra>",
    }


def _label(report: Report) -> str:
    slow = any(finding.id == SLOW for finding in report.findings)
    return f"rank {report.log.rank}{', the slowest' if slow else ''}"
