"""The lines of a file as readers want them: clean, as a stream, and many at a time where that is quicker."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

_CHUNK_BYTES = 1 << 19
_LONGEST_LINE = 1 << 22
_LINES_AT_A_TIME = 4096
_BOM = b"\xef\xbb\xbf"
_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class CleanLines:
    r"""The lines of a file, without ends, byte-order mark, colour codes and NUL bytes; ``\r`` ends one too.

    They can be gone through once, as the file is read; a line of more than 4 MiB is cut.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks():
            yield from chunk.removesuffix(b"\n").split(b"\n")

    def chunks(self) -> Iterator[bytes]:
        """Yield the lines many at a time, each with a line feed; the last line of the file may lack it."""
        rest = self._file.read(len(_BOM)).removeprefix(_BOM)
        while text := self._file.read(_CHUNK_BYTES):
            text = rest + text
            end = _end_of_lines(text)
            rest = text[end:]
            if end:
                text = clean(text[:end])
                yield text
        if rest:
            yield clean(rest)


def chunks_of(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines many at a time, each with a line feed, whatever holds them."""
    if isinstance(lines, CleanLines):
        yield from lines.chunks()
        return
    remaining = iter(lines)
    while batch := list(itertools.islice(remaining, _LINES_AT_A_TIME)):
        yield b"\n".join([*batch, b""])


def clean(text: bytes) -> bytes:
    r"""Return ``text`` without NUL bytes and colour codes, and with ``\n`` alone for every line end."""
    if b"\0" in text:
        text = text.replace(b"\0", b"")
    if b"\x1b" in text:
        text = _ESCAPES.sub(b"", text)
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text


def clean_head(head: bytes) -> bytes:
    """Return the first bytes of a file as `clean` does, without its byte-order mark."""
    return clean(head.removeprefix(_BOM))


def _end_of_lines(text: bytes) -> int:
    """Return where the last whole line of ``text`` ends; 0 where there is none yet."""
    end = text.rfind(b"\n") + 1
    if end or len(text) <= _LONGEST_LINE:
        return end
    return text.rfind(b"\r", 0, -1) + 1 or len(text)  # progress bars end no line for a long time
