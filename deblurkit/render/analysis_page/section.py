"""One log's part of the page: verdict and findings, then pictures, tables, events and notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deblurkit.analysis.findings import Finding
from deblurkit.analysis.report import Report
from deblurkit.analysis.tables import Event
from deblurkit.render.analysis import gain_sentence, over_the_run, settings_of, summary
from deblurkit.render.analysis_page.course import course_of
from deblurkit.render.analysis_page.elements import Pictures, as_html, sentences, table_of
from deblurkit.render.analysis_page.figure import Figure
from deblurkit.render.analysis_page.icicle_figure import icicle_figure
from deblurkit.render.analysis_page.length_figure import length_figure
from deblurkit.render.analysis_page.plain import in_html
from deblurkit.render.analysis_page.scalar_figures import scalar_figures
from deblurkit.render.analysis_page.stack_figure import stack_figure
from deblurkit.render.analysis_tables import tables
from deblurkit.units import format_duration, plural

_MOST_EVENTS = 40
_LEAST_POINTS, _MOST_POINTS = 60, 1_000  # of a line
_LEAST_BARS, _MOST_BARS = 60, 400  # of an icicle
_ALL_POINTS, _ALL_BARS = 2_000, 2_400  # of all logs' together


def report_section(report: Report, pictures: Pictures, *, share: int = 1) -> str:
    """Return what the page says about a log, without its heading.

    Args:
        report: on the log.
        pictures: takes in its pictures.
        share: how many logs the page holds: the more, the fewer points each picture has.
    """
    return "\n".join(_parts(report, pictures, max(share, 1)))


def _parts(report: Report, pictures: Pictures, share: int) -> Iterator[str]:
    yield f'<p class="verdict">{in_html(report.verdict)}</p>'
    yield f"<p>{in_html(summary(report))}</p>"
    yield from _findings(report.findings)
    yield sentences("Over the run", over_the_run(report))
    points = _within(_ALL_POINTS // share, _LEAST_POINTS, _MOST_POINTS)
    bars = _within(_ALL_BARS // share, _LEAST_BARS, _MOST_BARS)
    yield from map(pictures.placed, _figures(report, points, bars))
    yield from map(as_html, tables(report))
    yield from _events(report.log.events)
    yield sentences("Notes", report.notes)


def _figures(report: Report, points: int, bars: int) -> Iterator[Figure]:
    course, half = course_of(report), max(points // 2, _LEAST_POINTS)
    if course is not None:
        yield length_figure(report, course, points=points)
        stack = stack_figure(report, course, points=half)
        yield from [stack] if stack is not None else []
    icicle = icicle_figure(report, most=bars)
    yield from [icicle] if icicle is not None else []
    yield from scalar_figures(report.log, points=half)


def _within(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    yield f"<h3>{plural(len(findings), 'finding') if findings else 'No findings'}</h3>"
    yield from map(finding_as_html, findings)


def finding_as_html(finding: Finding) -> str:
    """Return a finding as an article: what, how it is known, why, what to do, what that brings."""
    facts = [("Evidence", in_html(finding.evidence)), ("Cause", in_html(finding.cause))]
    settings = "\n".join(settings_of(finding))
    lines = f"<pre>{in_html_lines(settings)}</pre>" if settings else ""
    facts.append(("Remedy", in_html(finding.remedy) + lines))
    if finding.gain is not None:
        facts.append(("Gain", in_html(gain_sentence(finding.gain).removeprefix("Gain: "))))
    body = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts if text)
    severity = "critical" if finding.severity == "critical" else "warning"
    return (
        f'<article class="finding {severity}"><h4><span class="badge">{in_html(finding.severity)}</span>'
        f" {in_html(finding.title)} <code>{in_html(finding.id)}</code></h4><dl>{body}</dl></article>"
    )


def in_html_lines(text: str) -> str:
    """Return lines so that a page shows them letter by letter."""
    return "\n".join(map(in_html, text.split("\n")))


def _events(events: Sequence[Event]) -> Iterator[str]:
    if not events:
        return
    shown = events[-_MOST_EVENTS:]
    hidden = len(events) - len(shown)
    caption = f"The last {len(shown)}; {plural(hidden, 'earlier one')} not shown." if hidden else ""
    rows = [
        (
            event.kind,
            "-" if event.step is None else f"{event.step:,}",
            "-" if event.seconds is None else format_duration(event.seconds),
            event.text,
        )
        for event in shown
    ]
    head = ("Event", "step", "lasted", "the log's line")
    yield table_of(head, rows, caption=caption, words=head[-1:])
