"""A recommendation in Markdown: the same tables as on a terminal, to put into a report or a preset."""

from __future__ import annotations

from collections.abc import Iterator

from deblurkit.language import Language
from deblurkit.render.recommend import facts, lists
from deblurkit.render.recommend_cells import said
from deblurkit.render.recommend_sheets import Sheet, sheets
from deblurkit.tuning.recommend.records import Recommendation

_MARKUP = str.maketrans({character: f"\\{character}" for character in "\\|*_`<>[]&#~+"})


def recommendation_as_markdown(found: Recommendation, *, language: Language = "en") -> str:
    """Return the whole report; whatever names hold, a reader sees it letter by letter."""
    return "\n".join(_lines(found, language)) + "\n"


def sheet_as_markdown(sheet: Sheet) -> str:
    """Return a table, figures on the right."""
    sides = [":--" if number == 0 or number in sheet.words else "--:" for number in range(len(sheet.head))]
    return "\n".join([_row(sheet.head), f"| {' | '.join(sides)} |", *map(_row, sheet.rows)])


def _lines(found: Recommendation, language: Language) -> Iterator[str]:
    yield f"# {said('The recommendation', language)}\n"
    yield from map(_item, facts(found))
    for sheet in sheets(found, language=language):
        yield f"\n## {_plain(sheet.title)}\n\n{sheet_as_markdown(sheet)}"
        if sheet.below:
            yield "\n" + "\n".join(map(_item, sheet.below))
    for title, lines in lists(found):
        yield f"\n## {said(title, language)}\n"
        yield from map(_item, lines)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _item(text: str) -> str:
    return f"- {_plain(text)}"


def _plain(text: str) -> str:
    return " ".join(text.translate(_MARKUP).split())
