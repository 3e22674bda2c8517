"""What ``diagnose-memory`` has found as one HTML file that needs nothing else: bars, and the tables below."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from deblurkit.render.analysis_page.elements import as_html, table_of
from deblurkit.render.analysis_page.plain import in_html
from deblurkit.render.memory import headline, sections
from deblurkit.render.memory_bars import drawn, resource_bars, stacked_bar
from deblurkit.render.page_style import footer_of, page_of
from deblurkit.tuning.memory_report import MemoryReport

_MOST_PARTS = 14  # of a bar; smaller ones are one

_COLOURS = {
    "taken": ("#c3c9d1", "#7d8792"),
    "rest": ("#a9b1bb", "#656f7a"),
    "free": ("#e9f3ea", "#a9c4ac"),
    "run": ("#8fbfe0", "#7db4d8"),
    "bad": ("#e39a90", "#dd8f84"),
}

_STYLE = """\
svg text { fill: var(--soft); }
svg .name { fill: var(--ink); font-weight: 600; }
svg .in { fill: #15191e; }
.mark { fill: var(--ink); }
.wide { margin: 8px 0 14px; }
"""


def memory_as_html(report: MemoryReport) -> str:
    """Return a page with all that the report for the terminal holds; every name in it is escaped."""
    title = headline(report.look)
    parts = map(_part, islice(sections(report), 1, None))  # the first one is the title
    body = "\n".join(["<main>", *_bars(report), *parts, "</main>", footer_of("diagnose-memory")])
    return page_of(title, body, heading=f"Memory of {title}", style=_STYLE, colours=_COLOURS, width=1140)


def _part(part: RenderableType) -> str:
    """Return a part of the report as HTML; figures are on the right of their columns, words on the left."""
    if not isinstance(part, Table):
        return as_html(part)
    head = [_plain(column.header) for column in part.columns]
    words = [title for title, column in zip(head, part.columns, strict=True) if column.justify != "right"]
    rows = zip(*(map(_plain, column.cells) for column in part.columns), strict=True)
    caption = "" if part.caption is None else _plain(part.caption)
    return table_of(head, list(rows), caption=caption, words=words)


def _plain(cell: RenderableType) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)


def _bars(report: MemoryReport) -> Iterator[str]:
    run = report.run
    yield "<h3>What is there, and who takes it</h3>"
    yield drawn(resource_bars(report.look, () if run is None else run.verdicts))
    if run is not None:
        yield f"<h3>{in_html(f'What this run will hold: {run.title}')}</h3>"
        step = [(row.name.removeprefix("activations: "), row.bytes or 0) for row in run.step.rows]
        step += [(row.name, row.bytes) for row in run.step.overheads if row.bytes]
        host = [(row.name, row.bytes) for row in run.host.rows if row.kind != "page cache"]
        device = "the CPU" if run.step.device_kind == "cpu" else "each GPU"
        yield drawn(
            [stacked_bar(f"A step on {device}", _few(step)), stacked_bar("All processes in RAM", _few(host))]
        )


def _few(held: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the largest parts, and the others as one."""
    ordered = sorted(held, key=lambda part: -part[1])
    rest = sum(count for _, count in ordered[_MOST_PARTS:])
    return ordered[:_MOST_PARTS] + ([("smaller ones", rest)] if rest else [])
