"""How our own timing logs grow: where a step ends, what later steps need of earlier lines, and the end."""

from __future__ import annotations

import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, BinaryIO

from deblurkit.analysis.formats.timing_jsonl import looks_like_json_lines, read_json_lines
from deblurkit.analysis.formats.timing_text import HEADER, looks_like_text_log, read_text_log
from deblurkit.analysis.lines import CleanLines, clean_head
from deblurkit.analysis.streams import Replayed
from deblurkit.analysis.tables import RunLog

_TOTAL = re.compile(rb"^[ \t]*(?:\x1b\[[\d;]*m)*Total[ -]*:[^\n]*ms[^\n]*\n", re.MULTILINE)
_LONGEST_HEADER = 1 << 16
_SUMMARY, _STEP = b"Timing Summary (Total ", b"\nStep "


class Growth(ABC):
    """A format that can be read on from the end of any whole step."""

    @abstractmethod
    def read(self, file: BinaryIO, *, source: str) -> RunLog:
        """Return the steps of a stretch that begins and ends between two steps.

        Raises:
            DeblurkitError: if there is none in it; it is to be read again when it is longer.
        """

    @abstractmethod
    def whole(self, tail: bytes) -> int:
        """Return where the last whole step ends in the newest bytes of a file; 0 where none does."""

    @abstractmethod
    def has_ended(self, tail: bytes) -> bool:
        """Return whether the newest bytes of a file say that the run is over."""


def growth_of(head: bytes) -> Growth | None:
    """Return how the log that begins like this grows; None for formats that are read whole."""
    text = clean_head(head)
    if looks_like_json_lines(text):
        return JsonLinesGrowth()
    return TextGrowth() if looks_like_text_log(text) else None


class JsonLinesGrowth(Growth):
    """Of the JSON lines: later rows need the header, and the names in force."""

    def __init__(self) -> None:
        self._header = self._names = b""

    def read(self, file: BinaryIO, *, source: str) -> RunLog:
        """Return the steps of a stretch; its names are in force in the next one."""
        header, names = self._header, self._names

        def lines() -> Iterator[bytes]:
            nonlocal header, names
            yield from filter(None, (header, names))
            for line in CleanLines(file):
                if line.startswith(b"{"):
                    header, names = header or line, _names_alone(line) or names
                yield line

        log = read_json_lines(lines(), source=source)
        self._header, self._names = header, names
        return log

    def whole(self, tail: bytes) -> int:
        """Return where the last whole line ends."""
        return tail.rfind(b"\n") + 1

    def has_ended(self, tail: bytes) -> bool:
        """Return whether the last line says what timing has cost."""
        last = tail[: self.whole(tail)].rstrip(b"\n").rpartition(b"\n")[2]
        return last.startswith(b"{") and b'"overhead"' in last


class TextGrowth(Growth):
    """Of the text: later steps need the header."""

    def __init__(self) -> None:
        self._header = b""

    def read(self, file: BinaryIO, *, source: str) -> RunLog:
        """Return the steps of a stretch; a header in its first line counts for the next ones too."""
        first = file.readline(_LONGEST_HEADER)
        whole: Any = io.BufferedReader(Replayed(self._header + first, file))
        log = read_text_log(CleanLines(whole), source=source)
        if HEADER in first:
            self._header = first
        return log

    def whole(self, tail: bytes) -> int:
        """Return where the line of the last total ends."""
        return max((match.end() for match in _TOTAL.finditer(tail)), default=0)

    def has_ended(self, tail: bytes) -> bool:
        """Return whether a summary follows the last step."""
        return tail.rfind(_SUMMARY) > tail.rfind(_STEP)


def _names_alone(line: bytes) -> bytes:
    """Return what a line says of the rows after it and nothing else; empty where it is damaged."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return b""
    kept = {key: told[key] for key in ("names", "clock") if key in told}
    return json.dumps(kept, ensure_ascii=False).encode() if "names" in kept else b""
