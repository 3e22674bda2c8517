"""Rich objects as plain text of a fixed width."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

WIDTH = 100


def as_text(renderable: RenderableType, *, width: int = WIDTH) -> str:
    """Return what a terminal of ``width`` columns would show, without colours or trailing blanks."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, force_terminal=False).print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())
