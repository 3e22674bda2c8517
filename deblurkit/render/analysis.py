"""Reports on logs as text that fits a terminal and can be read aloud: the verdict first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from deblurkit.analysis.findings import Finding, Gain
from deblurkit.analysis.report import Report
from deblurkit.render import analysis_tables
from deblurkit.render.text import WIDTH, as_text, indented
from deblurkit.units import format_ms, format_share, plural

_MOST_OUTLIERS = 5
_LEAST_TREND = 0.01  # of a step's length over the whole log; less is not worth a sentence
_WORDS = {
    "oom": "out of memory",
    "killed": "killed process",
    "watchdog": "time-out of ranks",
    "nonfinite": "loss that is no number",
    "error": "error",
    "memory-warning": "warning of memory",
    "leak": "leak of memory",
    "validation": "validation",
    "checkpoint": "checkpoint",
    "epoch": "epoch begun",
    "resume": "resume",
    "start": "start",
}


def report_as_text(report: Report, *, width: int = WIDTH) -> str:
    """Return a report to read, no line wider than ``width`` columns and none ending in blanks."""
    return re.sub(r"\n{3,}", "\n\n", as_text(Group(*_parts(report)), width=width))


def _parts(report: Report) -> Iterator[RenderableType]:
    yield Text(report.source)
    yield Text(f"Verdict: {report.verdict}")
    yield indented(summary(report))
    yield Text()
    yield from _findings(report.findings)
    yield from analysis_tables.tables(report)
    yield from _section("Over the run", over_the_run(report))
    yield from _section("Events", _events(report))
    yield from _section("Notes", report.notes)


def _section(title: str, lines: Sequence[str]) -> Iterator[RenderableType]:
    if lines:
        yield Text(f"\n{title}")
        for line in lines:
            yield indented(line)


def summary(report: Report) -> str:
    """Return how many steps a log holds, how long they take, and how many are done a second."""
    counted = plural(report.steps, "step")
    if report.warmup_steps:
        counted += f", {report.warmup_steps:,} of them warm-up and left out"
    return f"{counted}.{_length(report)}{_speed(report)}"


def _length(report: Report) -> str:
    figures = report.step_ms
    if not figures:
        return ""
    length = f" A step takes {format_ms(figures['mean'])} on average"
    if report.has_percentiles and report.steps - report.warmup_steps > 1:
        length += (
            f", {format_ms(figures['p50'])} in the median, {format_ms(figures['p95'])} at the 95th percentile"
            f" and {format_ms(figures['p99'])} at the 99th"
        )
    return f"{length}."


def _speed(report: Report) -> str:
    rates = []
    if report.steps_per_second is not None:
        rates.append(f"{_rate(report.steps_per_second)} steps a second")
    if report.samples_per_second is not None:
        rates.append(f"{_rate(report.samples_per_second)} samples a second")
    return f" That is {', '.join(rates)}." if rates else ""


def _rate(per_second: float) -> str:
    return f"{per_second:,.2f}" if per_second >= 1 else f"{per_second:.3f}"


def _findings(findings: Sequence[Finding]) -> Iterator[RenderableType]:
    if not findings:
        yield Text("No findings.")
        return
    yield Text(f"{plural(len(findings), 'finding').capitalize()}")
    for finding in findings:
        yield indented(f"{finding.severity}: {finding.title} [{finding.id}]")
        yield indented(finding.evidence, columns=4)
        if finding.cause:
            yield indented(f"Cause: {finding.cause}", columns=4)
        yield indented(f"Remedy: {finding.remedy}", columns=4)
        yield from (indented(line, columns=6) for line in settings_of(finding))
        if finding.gain is not None:
            yield indented(gain_sentence(finding.gain), columns=4)


def settings_of(finding: Finding) -> Iterator[str]:
    """Yield the settings as options of `deblurkit train`, and the keys that have no value for everybody."""
    given = dict(setting.split("=", 1) for setting in finding.settings)
    for key in finding.keys:
        if key in given:
            value = f"'{key}={given[key]}'" if " " in given[key] else f"{key}={given[key]}"
            yield f"--set {value}"
    open_keys = [key for key in finding.keys if key not in given]
    if open_keys:
        yield f"to your own value: {', '.join(open_keys)}"


def gain_sentence(gain: Gain) -> str:
    """Return a predicted gain with its interval and where it comes from."""
    return (
        f"Gain: {gain.likely:.2f} times as fast, {gain.low:.2f} to {gain.high:.2f} by the evidence;"
        f" {gain.arithmetic}."
    )


def over_the_run(report: Report) -> list[str]:
    """Return what becomes of a step's length over the run, a sentence each."""
    lines = []
    trend = report.trend
    if trend is not None and trend.is_shown and abs(trend.share) >= _LEAST_TREND and not report.changes:
        word = "longer" if trend.per_1000_steps > 0 else "shorter"
        low, high = sorted((abs(trend.low), abs(trend.high)))
        lines.append(
            f"A step gets {format_ms(abs(trend.per_1000_steps))} {word} every 1,000 steps (95 % interval"
            f" {format_ms(low)} to {format_ms(high)}), {format_share(abs(trend.share))} over the log."
        )
    for change in report.changes:
        row = f"; {change.row} makes up most of it" if change.row else ""
        lines.append(
            f"From step {change.step:,} on a step takes {format_ms(change.after)} instead of"
            f" {format_ms(change.before)}{row}."
        )
    return [*lines, *_outliers(report)]


def _outliers(report: Report) -> Iterator[str]:
    if not report.outliers:
        return
    named = ", ".join(
        f"{outlier.step:,} ({format_ms(outlier.ms)}, {outlier.row} +{format_ms(outlier.excess_ms)})"
        for outlier in report.outliers[:_MOST_OUTLIERS]
    )
    count = len(report.outliers)
    stand = "step stands" if count == 1 else "steps stand"
    longest = "" if count == 1 else ", the longest"
    yield f"{count:,} {stand} out{longest}: {named}."


def _events(report: Report) -> list[str]:
    counts = Counter(event.kind for event in report.log.events)
    return [plural(count, _WORDS.get(kind, kind)) for kind, count in counts.items()]
