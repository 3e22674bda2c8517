"""Parts of the page: pictures, tables and sentences as HTML."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deblurkit.render.analysis_page.figure import Figure
from deblurkit.render.analysis_page.plain import in_html


class Pictures:
    """Gathers the pictures of a page, which are drawn where `placed` has left room for them."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []

    def placed(self, figure: Figure) -> str:
        """Return the heading of a picture, what to know about it, and the room for it."""
        self.figures.append(figure)
        number, title = len(self.figures) - 1, in_html(figure.title)
        room = f'data-figure="{number}" style="height:{figure.layout["height"]}px"'
        about = f"<figcaption>{in_html(figure.about)}</figcaption>" if figure.about else ""
        return (
            f"<figure><h3>{title}</h3>{about}"
            f'<div class="plot" role="img" aria-label="{title}" {room}></div></figure>'
        )

    def as_data(self) -> list[dict[str, object]]:
        """Return what plotly draws, by the number of the picture."""
        return [{"data": figure.data, "layout": figure.layout} for figure in self.figures]


def as_html(part: RenderableType) -> str:
    """Return a part of a report for the terminal as HTML: a table, an indented sentence, or a heading."""
    if isinstance(part, Table):
        return table_as_html(part)
    if isinstance(part, Padding) and isinstance(part.renderable, Text):
        return f"<p>{in_html(part.renderable.plain)}</p>"
    text = part.plain if isinstance(part, Text) else str(part)
    return f"<h3>{in_html(text.strip())}</h3>" if text.startswith("\n") else f"<p>{in_html(text)}</p>"


def table_as_html(table: Table) -> str:
    """Return a table for the terminal as one for the page, with its caption."""
    rows = list(zip(*(map(_plain, column.cells) for column in table.columns), strict=True))
    caption = _plain(table.caption) if table.caption else ""
    return table_of([_plain(column.header) for column in table.columns], rows, caption=caption)


def table_of(
    head: Sequence[str], body: Iterable[Sequence[str]], *, caption: str = "", words: Collection[str] = ()
) -> str:
    """Return a table whose first column names its rows.

    Args:
        head: titles of the columns.
        body: its rows.
        caption: of the table; none if empty.
        words: titles of the columns behind the first one that do not hold figures.
    """
    sides = [' class="words"' if title in words else "" for title in head]
    titles = "".join(
        f'<th scope="col"{side}>{in_html(title)}</th>' for title, side in zip(head, sides, strict=True)
    )
    rows = "".join(_row(row, sides) for row in body)
    note = f"<caption>{in_html(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide"><table>{note}<thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _row(row: Sequence[str], sides: Sequence[str]) -> str:
    first, *rest = map(in_html, row)
    cells = "".join(f"<td{side}>{value}</td>" for value, side in zip(rest, sides[1:], strict=True))
    return f'<tr><th scope="row">{first}</th>{cells}</tr>'


def sentences(title: str, lines: Iterable[str]) -> str:
    """Return a list under a heading; nothing where there is nothing to say."""
    items = "".join(f"<li>{in_html(line)}</li>" for line in lines)
    return f"<h3>{in_html(title)}</h3><ul>{items}</ul>" if items else ""


def _plain(cell: RenderableType | None) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)
