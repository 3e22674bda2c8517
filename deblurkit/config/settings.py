"""A value, where it was written, and what can be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Origin:
    """Where a value was written.

    Attributes:
        source: a file, ``preset NAME`` or ``--set``.
        line: from 1; None where there are no lines.
        written: the older name that it was written under.
    """

    source: str
    line: int | None = None
    written: str | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Setting:
    """A value and where it was written."""

    value: Any
    origin: Origin


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, with which key (or none), and what.

    ``is_usage`` tells a ``--set`` that is no ``KEY=VALUE`` from a value that does not fit; ``is_elsewhere``
    says that not the key itself was written there, but one that contradicts it.
    """

    origin: Origin
    key: str
    message: str
    is_usage: bool = False
    is_elsewhere: bool = False

    def __str__(self) -> str:
        if self.is_elsewhere:
            place = "" if self.origin.source == "--set" else f"{self.origin}: "
            return f"{place}{self.key}: {self.message}"
        place = str(self.origin)
        if self.key:
            place += (" " if self.origin.source == "--set" else ": ") + self.key
        written = f" (written {self.origin.written})" if self.origin.written else ""
        return f"{place}{written}: {self.message}" if place else self.message
