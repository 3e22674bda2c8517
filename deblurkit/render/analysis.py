"""Reports on timing logs as text that fits a terminal, and as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deblurkit.analysis.findings import Finding
from deblurkit.analysis.report import Report
from deblurkit.units import format_ms, format_share, plural

WIDTH = 100
_MOST_MODULES = 20


def report_as_text(report: Report, *, width: int = WIDTH) -> str:
    """Return a report to read, no line wider than ``width`` columns and none ending in blanks."""
    console = Console(
        file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False
    )
    with console.capture() as capture:
        for part in _parts(report):
            console.print(part, highlight=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def reports_as_json(reports: Sequence[Report]) -> str:
    """Return one JSON object for a single report, a list of them for several."""
    documents = [report_as_dict(report) for report in reports]
    return json.dumps(documents[0] if len(documents) == 1 else documents, ensure_ascii=False, indent=2)


def report_as_dict(report: Report) -> dict[str, Any]:
    """Return the report's JSON object: milliseconds to 4 decimals, shares as fractions of one."""
    figures = report.step_ms if report.has_percentiles else {"mean": report.step_ms["mean"]}
    return {
        "format": report.format,
        "files": [report.source],
        "steps": report.steps,
        "warmup_steps": report.warmup_steps,
        "step_ms": {key: _rounded(figures.get(key)) for key in ("mean", "p50", "p95")},
        "steps_per_second": _rounded(report.steps_per_second),
        "samples_per_second": _rounded(report.samples_per_second),
        "phases": [
            {
                "name": str(name),
                "mean_ms": _rounded(row["mean_ms"]),
                "p50_ms": _rounded(row["p50_ms"]) if report.has_percentiles else None,
                "p95_ms": _rounded(row["p95_ms"]) if report.has_percentiles else None,
                "share": float(row["share"]),
            }
            for name, row in report.phases.iterrows()
        ],
        "modules": [
            {
                "path": str(path),
                "inclusive_ms": _rounded(row["inclusive_ms"]),
                "exclusive_ms": _rounded(row["exclusive_ms"]),
                "share": float(row["share"]),
            }
            for path, row in report.modules.iterrows()
        ],
        "findings": [vars(finding) for finding in report.findings],
        "verdict": report.verdict,
        "notes": list(report.notes),
        "damaged_lines": report.damaged_lines,
        "beside": [
            {"name": part.name, "seconds": part.seconds, "count": part.count} for part in report.beside
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def _parts(report: Report) -> Iterator[RenderableType]:
    yield Text(report.source)
    yield _indented(_summary(report))
    yield Text()
    yield Text(f"Verdict: {report.verdict}")
    yield _phases(report)
    if len(report.modules) > sum(report.modules["depth"] == 0):
        yield _modules(report)
    if report.beside:
        yield _beside(report)
    yield from _findings(report.findings)
    if report.notes:
        yield Text("\nNotes")
        for note in report.notes:
            yield _indented(note)


def _summary(report: Report) -> str:
    counted = plural(report.steps, "step")
    if report.warmup_steps:
        counted += f", {report.warmup_steps:,} of them warm-up and left out"
    figures = report.step_ms
    length = f"A step takes {format_ms(figures['mean'])} on average"
    if report.has_percentiles and report.steps - report.warmup_steps > 1:
        length += (
            f", {format_ms(figures['p50'])} in the median, {format_ms(figures['p95'])} at the 95th percentile"
        )
    rates = []
    if report.steps_per_second is not None:
        rates.append(f"{_rate(report.steps_per_second)} steps a second")
    if report.samples_per_second is not None:
        rates.append(f"{_rate(report.samples_per_second)} samples a second")
    speed = f" That is {', '.join(rates)}." if rates else ""
    return f"{counted}. {length}.{speed}"


def _rate(per_second: float) -> str:
    return f"{per_second:,.2f}" if per_second >= 1 else f"{per_second:.3f}"


def _phases(report: Report) -> Table:
    table = _table("Phase", "mean", "median", "95 %", "share")
    for name, row in report.phases.iterrows():
        figures = (
            [format_ms(row["p50_ms"]), format_ms(row["p95_ms"])] if report.has_percentiles else ["-", "-"]
        )
        table.add_row(Text(str(name)), format_ms(row["mean_ms"]), *figures, format_share(row["share"]))
    return table


def _modules(report: Report) -> RenderableType:
    table = _table("Inside the phases", "mean", "own time", "share")
    nested = {path.partition("/")[0] for path in report.modules.index if "/" in path}
    inside = report.modules[[path.partition("/")[0] in nested for path in report.modules.index]]
    shown = inside.nlargest(_MOST_MODULES, "inclusive_ms").index
    for path, row in inside.loc[inside.index.isin(shown)].iterrows():
        name = "  " * int(row["depth"]) + str(path).rpartition("/")[2]
        table.add_row(
            Text(name),
            format_ms(row["inclusive_ms"]),
            format_ms(row["exclusive_ms"]),
            format_share(row["share"]),
        )
    hidden = len(inside) - len(shown)
    if hidden:
        table.caption = f"{plural(hidden, 'shorter row')} not shown; --json has them all."
    return table


def _beside(report: Report) -> Table:
    table = _table("Beside the steps", "times", "in all", "each")
    for part in report.beside:
        each = part.seconds / part.count if part.count else part.seconds
        table.add_row(
            Text(part.name), f"{part.count:,}", format_ms(1000 * part.seconds), format_ms(1000 * each)
        )
    return table


def _findings(findings: Sequence[Finding]) -> Iterator[RenderableType]:
    if not findings:
        yield Text("No findings.")
        return
    yield Text("Findings")
    for finding in findings:
        yield _indented(f"{finding.severity}: {finding.title} [{finding.id}]")
        yield _indented(finding.evidence, columns=4)
        yield _indented(finding.remedy, columns=4)


def _indented(text: str, *, columns: int = 2) -> Padding:
    return Padding(Text(text), (0, 0, 0, columns))


def _table(first: str, *figures: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column(first, overflow="fold", ratio=None)
    for title in figures:
        table.add_column(title, justify="right", no_wrap=True)
    return table
