"""Reports on logs as one HTML file: it needs no network and no other file, and plotly draws its pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from deblurkit.analysis.compare import Comparison
from deblurkit.analysis.report import Report
from deblurkit.errors import DeblurkitError
from deblurkit.render.analysis_page.comparison_figure import comparison_figure
from deblurkit.render.analysis_page.elements import Pictures, as_html, table_of
from deblurkit.render.analysis_page.plain import as_json, in_html
from deblurkit.render.analysis_page.rank_figure import SLOW, rank_figure, runs_of_ranks
from deblurkit.render.analysis_page.section import finding_as_html, report_section
from deblurkit.render.analysis_page.template import BODY, DRAWING, STYLE
from deblurkit.render.compare import comparison_parts
from deblurkit.render.page_style import footer_of, page_of
from deblurkit.units import format_ms, plural

_OPEN = 2  # logs of a page that are unfolded; of more, the first alone


def reports_as_html(reports: Sequence[Report], *, comparison: Comparison | None = None) -> str:
    """Return a page on one log or several, and on what changed from one to the other if that is given.

    Every name in it is escaped, nothing in it can fetch anything, and its size stays within a few MB however
    long the logs are: pictures hold at most 1,000 points a line.

    Raises:
        DeblurkitError: if plotly is not installed.
        ValueError: if there is no report.
    """
    if not reports:
        raise ValueError("a page needs a report")
    library = plotly_js()
    pictures = Pictures()
    parts = "\n".join(_parts(reports, comparison, pictures))
    figures, footer = as_json(pictures.as_data()), footer_of("analyze-log")
    return page_of(
        _title(reports),
        BODY.substitute(parts=parts, footer=footer, figures=figures),
        style=STYLE,
        has_dark=False,
        scripts=[library, DRAWING],
        images="data: blob:",
    )


def plotly_js() -> str:
    """Return the library that draws the pictures.

    Raises:
        DeblurkitError: if plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise DeblurkitError(
            "the pictures of an HTML report need plotly, which is not installed: pip install"
            " 'deblurkit[report]'"
        ) from None
    return str(get_plotlyjs())


def _title(reports: Sequence[Report]) -> str:
    return reports[0].source if len(reports) == 1 else plural(len(reports), "log")


def _parts(reports: Sequence[Report], comparison: Comparison | None, pictures: Pictures) -> Iterator[str]:
    if len(reports) > 1:
        yield _overview(reports)
    if comparison is not None:
        yield from _comparison(comparison, pictures)
    for folder, ranks in runs_of_ranks(reports).items():
        yield f"<section><h2>{in_html(folder)}</h2>{pictures.placed(rank_figure(ranks))}"
        yield from (finding_as_html(each) for report in ranks for each in report.findings if each.id == SLOW)
        yield "</section>"
    if len(reports) == 1:
        yield report_section(reports[0], pictures)
        return
    unfolded = _OPEN if len(reports) <= _OPEN else 1
    for number, report in enumerate(reports):
        yield (
            f'<details id="log{number}"{" open" * (number < unfolded)}>'
            f"<summary><h2>{in_html(report.source)}</h2></summary>"
            f"{report_section(report, pictures, share=len(reports))}</details>"
        )


def _overview(reports: Sequence[Report]) -> str:
    """Return the table of all logs, each with its verdict and the findings by their ids."""
    rows = [
        (
            report.source,
            "-" if report.log.rank is None else str(report.log.rank),
            f"{report.steps:,}",
            format_ms(report.step_ms["mean"]) if report.step_ms else "-",
            ", ".join(finding.id for finding in report.findings) or "none",
            report.verdict,
        )
        for report in reports
    ]
    head = ("Log", "rank", "steps", "mean step", "findings", "verdict")
    return table_of(head, rows, words=head[-2:])


def _comparison(comparison: Comparison, pictures: Pictures) -> Iterator[str]:
    yield "<section><h2>Comparison</h2>"
    figure = comparison_figure(comparison)
    for part in comparison_parts(comparison):
        yield as_html(part)
        if figure is not None and isinstance(part, Table):  # the first one is that of the phases
            yield pictures.placed(figure)
            figure = None
    yield "</section>"
