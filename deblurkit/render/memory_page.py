"""What ``diagnose-memory`` has found as one HTML file that needs nothing else: bars, and the tables below."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from string import Template

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from deblurkit import __version__
from deblurkit.render.analysis_page.elements import as_html, table_of
from deblurkit.render.analysis_page.plain import in_html
from deblurkit.render.memory import headline, sections
from deblurkit.render.memory_bars import drawn, resource_bars, stacked_bar
from deblurkit.tuning.memory_report import MemoryReport

_MOST_PARTS = 14  # of a bar; smaller ones are one

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --soft: #59636e; --line: #d8dee4;
  --taken: #c3c9d1; --rest: #a9b1bb; --free: #e9f3ea; --run: #8fbfe0; --bad: #e39a90; }
@media (prefers-color-scheme: dark) { :root { --ground: #15191e; --ink: #e8ecf1; --soft: #9aa4b0;
  --line: #333b45; --taken: #7d8792; --rest: #656f7a; --free: #a9c4ac; --run: #7db4d8; --bad: #dd8f84; } }
body { margin: 24px auto 64px; max-width: 1140px; padding: 0 20px; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 22px; margin: 0 0 8px; }
h3 { font-size: 16px; margin: 26px 0 6px; overflow-wrap: anywhere; }
p { margin: 0 0 4px; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 13px; fill: var(--soft); }
svg .name { fill: var(--ink); font-weight: 600; }
svg .in { fill: #15191e; }
.mark { fill: var(--ink); }
.wide { overflow-x: auto; margin: 8px 0 14px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 10px; text-align: right; vertical-align: top; white-space: pre;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
th:first-child { text-align: left; }
tbody th { color: var(--ink); font-weight: normal; white-space: pre-wrap; overflow-wrap: anywhere;
  min-width: 160px; }
.words { text-align: left; white-space: pre-wrap; overflow-wrap: anywhere; min-width: 90px; }
caption { caption-side: bottom; text-align: left; padding: 4px 10px; color: var(--soft); }
footer { margin-top: 32px; border-top: 1px solid var(--line); padding-top: 8px; color: var(--soft);
  font-size: 13px; }
</style>
</head>
<body>
<h1>Memory of $title</h1>
<main>
$bars
$sections
</main>
<footer>deblurkit $version, diagnose-memory</footer>
</body>
</html>
""")


def memory_as_html(report: MemoryReport) -> str:
    """Return a page with all that the report for the terminal holds; every name in it is escaped."""
    return PAGE.substitute(
        title=in_html(headline(report.look)),
        bars="\n".join(_bars(report)),
        sections="\n".join(map(_part, islice(sections(report), 1, None))),  # the first one is the title
        version=in_html(__version__),
    )


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
