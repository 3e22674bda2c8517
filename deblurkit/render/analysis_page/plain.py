"""Text from a log made safe to show: in HTML, in the labels of plotly, and as JSON inside a page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len, chop_cells

_LARGEST_WHOLE = 1e15  # that is written digit by digit
Numbers: TypeAlias = list[float | int | None]

_UNSHOWN = re.compile(  # control characters, halves of surrogate pairs, and what turns the line's direction
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]"
)


def shown(text: str) -> str:
    """Return a text of one line that any reader of UTF-8 takes, without what changes the text around it."""
    return _UNSHOWN.sub(" ", text)


def in_html(text: str) -> str:
    """Return a text so that a page shows it letter by letter."""
    return escape(shown(text))


def in_plot(text: str, *, columns: int | None = None) -> str:
    """Return a text so that plotly, which takes some tags for markup, shows it letter by letter.

    Args:
        text: a name of the log.
        columns: of a terminal that it may take; cut to them if given.
    """
    whole = shown(text)
    if columns is not None and cell_len(whole) > columns:
        whole = chop_cells(whole, columns - 1)[0] + "…"
    return escape(whole, quote=False)


def as_json(value: Sequence[Any] | Mapping[str, Any]) -> str:
    """Return JSON that can stand inside a script element: nothing in it ends the element.

    Raises:
        ValueError: if a number in it is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def numbers(values: npt.ArrayLike, digits: int = 5) -> Numbers:
    """Return values to so many digits, whole numbers as such; None for what is no finite number."""
    array = np.asarray(values, dtype=np.float64)
    return [_number(value, digits) for value in array.tolist()]


def _number(value: float, digits: int) -> float | int | None:
    if value - value != 0:  # infinite, or no number
        return None
    if value == int(value) and abs(value) < _LARGEST_WHOLE:
        return int(value)
    return float(f"{value:.{digits}g}")
