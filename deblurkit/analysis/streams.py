"""Files as streams that are read once: looked at before they are read, and unpacked where they are gzip."""

from __future__ import annotations

import io
import zlib
from typing import Any, BinaryIO

_GZIP = b"\x1f\x8b"
_READ_BYTES = 1 << 16
_ANY_GZIP_HEADER = zlib.MAX_WBITS | 16


class Replayed(io.RawIOBase):
    """A stream whose first bytes were read before, from its beginning.

    Args:
        head: these bytes.
        rest: the stream after them.
    """

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._at = 0
        self._rest = rest

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer`` as far as the next bytes go; return how many came, 0 at the end."""
        data = self._head[self._at : self._at + len(buffer)]
        self._at += len(data)
        if not data:
            self._head = b""  # so that its memory is free
            data = self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Unpacked(io.RawIOBase):
    """What a gzip stream holds, its members one after the other, as far as it can be unpacked.

    Args:
        packed: the stream from its beginning.
    """

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._unpack = zlib.decompressobj(_ANY_GZIP_HEADER)
        self._waiting = b""
        self._ended = False
        self.damage = ""  # what is wrong with the stream, known once it was read

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer`` as far as the next bytes go; return how many came, 0 at the end or at damage."""
        data = b""
        while not data and not self._ended:
            data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _next(self, most: int) -> bytes:
        if self._unpack.eof:
            self._begin_member()
            return b""
        packed = self._waiting or self._packed.read(_READ_BYTES)
        before = self._unpack.copy()
        try:
            data = self._unpack.decompress(packed, most)
        except zlib.error:
            return self._stop("is damaged", _as_far_as_possible(before, packed, most))
        self._waiting = self._unpack.unconsumed_tail
        if not packed and not data and not self._unpack.eof:
            return self._stop("is cut off")
        return data

    def _begin_member(self) -> None:
        """Go on to the next member of the stream; zeros after the last one fill up a block of a tape."""
        rest = self._unpack.unused_data or self._packed.read(_READ_BYTES)
        while rest and not rest.strip(b"\0"):
            rest = self._packed.read(_READ_BYTES)
        rest = rest.lstrip(b"\0")
        if rest and rest.startswith(_GZIP[: len(rest)]):
            self._unpack = zlib.decompressobj(_ANY_GZIP_HEADER)
            self._waiting = rest
        else:
            self._stop("is followed by other bytes" if rest else "")

    def _stop(self, damage: str, data: bytes = b"") -> bytes:
        self._ended = True
        self.damage = damage
        return data


def is_gzip(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of gzip."""
    return head.startswith(_GZIP)


def _as_far_as_possible(unpack: zlib._Decompress, packed: bytes, most: int) -> bytes:
    """Return what comes before the byte at which unpacking fails."""
    data = b""
    for at in range(len(packed)):
        try:
            data += unpack.decompress(packed[at : at + 1])
        except zlib.error:
            break
    return data[:most]
