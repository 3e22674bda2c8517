"""A window of text over a file that is read once, front to back; a file that breaks off just ends."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from typing import Any, BinaryIO

WINDOW_BYTES = 1 << 19  # larger ones fall out of the processor's cache: 4 MiB is a tenth slower
LARGEST_VALUE = 1 << 24  # characters of one event, or of one member beside the events
_READ_BYTES = 1 << 18  # what a broken compressed stream takes with it at most
_KEPT = 256  # characters that a number, or the start of an event, fits in, so that none is cut in two
decode = json.JSONDecoder(strict=False).raw_decode


class TextWindow:
    """Text that has not been taken yet.

    Attributes:
        text: what is in memory.
        at: how much of it has been taken.
        offset: characters of the file before ``text``.
        ended: whether the file holds nothing beyond ``text``.
        broken: why the file could not be read to its end; None where it could.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.text = ""
        self.at = self.offset = 0
        self.ended = False
        self.broken: str | None = None
        self._read = getattr(file, "read1", file.read)
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")

    @property
    def exhausted(self) -> bool:
        """Whether all has been taken."""
        return self.ended and self.at >= len(self.text)

    def fill(self) -> bool:
        """Read on by one window; False where the file has ended."""
        if self.ended:
            return False
        more = self._next_bytes()
        self.text = self.text[self.at :] + self._utf8.decode(more, final=self.ended)
        self.offset += self.at
        self.at = 0
        return True

    def skip(self, pattern: re.Pattern[str]) -> str:
        """Take what ``pattern`` matches here, and return the character behind it; nothing at the end."""
        while True:
            match = pattern.match(self.text, self.at)
            if match is not None:
                self.at = match.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.fill():
                return ""

    def find(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Take all before the next match, and return it; None, with everything taken, without one."""
        while True:
            match = pattern.search(self.text, self.at)
            if match is not None:
                self.at = match.start()
                return match
            self.at = len(self.text) if self.ended else max(self.at, len(self.text) - _KEPT)
            if not self.fill():
                return None

    def value(self) -> Any:
        """Take one JSON value.

        Raises:
            ValueError: if there is none here, or not a whole one; nothing is taken.
        """
        while True:
            try:
                value, end = decode(self.text, self.at)
            except RecursionError as error:
                raise ValueError("nested too deeply") from error
            except json.JSONDecodeError as error:
                if not self._may_go_on(error) or not self.fill():
                    raise
                continue
            if end < len(self.text) - _KEPT or not self.fill():  # else a number might go on
                self.at = end
                return value

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Return whether a value may be whole with more of the file."""
        at_the_end = error.pos > len(self.text) - _KEPT or error.msg.startswith("Unterminated string")
        return at_the_end and len(self.text) - self.at < LARGEST_VALUE

    def _next_bytes(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while size < WINDOW_BYTES and not self.ended:
            part = self._next_part()
            self.ended = not part
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _next_part(self) -> bytes:
        try:
            return bytes(self._read(_READ_BYTES))
        except (EOFError, OSError, zlib.error) as error:
            self.broken = str(error) or type(error).__name__
            return b""
