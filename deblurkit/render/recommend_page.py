"""A recommendation as one HTML file that needs nothing else: the front as a picture, the tables below it."""

from __future__ import annotations

from collections.abc import Iterator

from deblurkit.language import Language
from deblurkit.render.analysis_page.elements import sentences, table_of
from deblurkit.render.analysis_page.plain import in_html
from deblurkit.render.page_style import footer_of, page_of
from deblurkit.render.recommend import facts, lists
from deblurkit.render.recommend_cells import said
from deblurkit.render.recommend_front import front_as_svg
from deblurkit.render.recommend_sheets import Sheet, front_sheet, sheets
from deblurkit.tuning.recommend.records import Recommendation

_COLOURS = {
    "grid": ("#e6eaee", "#2a313a"),
    "dot": ("#8a95a1", "#7d8792"),
    "front": ("#1f77b4", "#7db4d8"),
    "best": ("#1a7f37", "#57c278"),
    "start": ("#b7791f", "#e0a458"),
    "over": ("#c9ced4", "#454e59"),
    "budget": ("#c0392b", "#dd8f84"),
}
_STYLE = """\
svg text { fill: var(--soft); }
svg .name { fill: var(--ink); font-weight: 600; pointer-events: none; }
.grid { stroke: var(--grid); }
.budget { stroke: var(--budget); stroke-width: 1.5; stroke-dasharray: 6 4; }
path.front { fill: none; stroke: var(--front); stroke-width: 1.5; }
.point { color: var(--dot); outline: none; }
.point line { stroke: currentColor; opacity: 0.45; }
.point circle { stroke: currentColor; stroke-width: 1.8; fill: var(--ground); }
.point.measured circle { fill: currentColor; }
.point.front { color: var(--front); }
.point.best { color: var(--best); }
.point.start { color: var(--start); }
.point.over { color: var(--over); }
.point:hover circle, .point:focus circle { stroke: var(--ink); stroke-width: 3; }
.point:hover line, .point:focus line { opacity: 1; stroke-width: 2; }
.wide { margin: 8px 0 14px; }
ul { margin: 0; padding-left: 22px; }
@media print { .wide { overflow: visible; } h3 { break-after: avoid; } tr { break-inside: avoid; } }
"""
_KEY = (
    "A point is a configuration, its line the 90 % interval; filled: measured, hollow: predicted. The steps"
    " are the front: nothing below them is worth its memory. Point at one for its name."
)


def recommendation_as_html(found: Recommendation, *, language: Language = "en") -> str:
    """Return a page with all that the report for the terminal holds; every name in it is escaped."""
    body = "\n".join(["<main>", *_parts(found, language), "</main>", footer_of("recommend-config")])
    title = said("The recommendation", language)
    return page_of(title, body, style=_STYLE, colours=_COLOURS)


def _parts(found: Recommendation, language: Language) -> Iterator[str]:
    yield from (f"<p>{in_html(fact)}</p>" for fact in facts(found))
    picture = front_as_svg(found)
    front = front_sheet(found, language=language)
    if picture:
        yield f"<h3>{in_html(front.title)}</h3><p><small>{in_html(_KEY)}</small></p>{picture}"
    if front.rows:
        yield _table(front)
    for sheet in sheets(found, language=language):
        yield f"<h3>{in_html(sheet.title)}</h3>{_table(sheet)}"
        yield from (f"<p><small>{in_html(line)}</small></p>" for line in sheet.below)
    for title, lines in lists(found):
        yield sentences(said(title, language), lines)


def _table(sheet: Sheet) -> str:
    words = [title for number, title in enumerate(sheet.head) if number in sheet.words]
    return table_of(sheet.head, sheet.rows, words=words)
