"""Rich objects as plain text of a fixed width, and what several reports are put together from."""

from __future__ import annotations

import io

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WIDTH = 100


def as_text(renderable: RenderableType, *, width: int = WIDTH) -> str:
    """Return what a terminal of ``width`` columns would show, without colours or trailing blanks."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, force_terminal=False).print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def indented(text: str, *, columns: int = 2) -> Padding:
    """Return a paragraph that begins, as all its lines do, after some columns."""
    return Padding(Text(text), (0, 0, 0, columns))


def figure_table(first: str, *figures: str) -> Table:
    """Return an empty table: a column of names, which may fold, and columns of figures, which may not."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column(first, overflow="fold")
    for title in figures:
        table.add_column(title, justify="right", no_wrap=True)
    return table
