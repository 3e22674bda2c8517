"""The frames of TensorFlow's record files, which TensorBoard's event files are: length, checksums, bytes.

A record is its length (64 bits, little-endian), a masked CRC-32C of these 8 bytes, the bytes, and a masked
CRC-32C of them: https://www.tensorflow.org/tutorials/load_data/tfrecord.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

LARGEST = 1 << 24  # bytes of a record that is taken in; pictures and graphs may be larger, numbers are not
_LARGEST_CHECKED = 1 << 16  # larger ones hold pictures and graphs, not worth the time of a checksum
_CHUNK = 1 << 18
_HEAD, _CRC = struct.Struct("<QI"), struct.Struct("<I")
_LENGTH = re.compile(rb"(?!\0{4}).{4}\0{4}", re.DOTALL)  # of a record under 4 GiB, and not empty
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected
_MASK = 0xA282EAD8


def masked_crc(data: bytes) -> int:
    """Return the masked CRC-32C of ``data``, as record files hold it."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    """Return ``data`` as a record."""
    length = struct.pack("<Q", len(data))
    return length + _CRC.pack(masked_crc(length)) + data + _CRC.pack(masked_crc(data))


def read_records(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the bytes of every record, and None for every stretch that is not a whole one.

    After a damaged stretch, reading goes on where the next length with its checksum stands. A record over
    ``LARGEST`` is passed over: it yields no bytes.
    """
    window = _Window(file)
    while window.has(1):
        record = window.take_record()
        if record is None:
            window.skip(1)
            window.seek_length()
        yield record


class _Window:
    """The part of a file that is in memory, and a place in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._data = b""
        self._at = 0

    def has(self, count: int) -> bool:
        """Return whether ``count`` more bytes follow."""
        while len(self._data) - self._at < count:
            if not self._fill(count):
                return False
        return True

    def take_record(self) -> bytes | None:
        """Return the bytes of the record that begins here and pass it; None where no whole one does."""
        length = self._length()
        if length is None:
            return None
        size = _HEAD.size + length + _CRC.size
        if length > LARGEST:
            return b"" if self.skip(size) else None
        if not self.has(size):
            return None
        start = self._at + _HEAD.size
        data = self._data[start : start + length]
        if length <= _LARGEST_CHECKED and _CRC.unpack_from(self._data, start + length) != (masked_crc(data),):
            return None
        self._at += size
        return data

    def skip(self, count: int) -> bool:
        """Pass ``count`` bytes; return whether there were as many."""
        while (left := len(self._data) - self._at) < count:
            count -= left
            self._at = len(self._data)
            if not self._fill(1):
                return False
        self._at += count
        return True

    def seek_length(self) -> None:
        """Go on to the next place where a length stands with its checksum, or to the end."""
        while self.has(_HEAD.size):
            match = _LENGTH.search(self._data, self._at, len(self._data) - _CRC.size)
            self._at = len(self._data) - _HEAD.size + 1 if match is None else match.start()
            if match is not None:
                if self._length() is not None:
                    return
                self._at += 1
        self._at = len(self._data)

    def _length(self) -> int | None:
        """Return the bytes of the record that begins here; None where none does."""
        if not self.has(_HEAD.size):
            return None
        length, crc = _HEAD.unpack_from(self._data, self._at)
        return int(length) if _crc_of_length(length) == crc else None

    def _fill(self, count: int) -> bool:
        """Read on: a chunk, or as many bytes as are wanted; return False at the end."""
        more = self._file.read(max(_CHUNK, count))
        self._data = self._data[self._at :] + more
        self._at = 0
        return bool(more)


@functools.lru_cache(maxsize=1)
def _crc_table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


@functools.lru_cache(maxsize=4096)  # the same lengths come again and again
def _crc_of_length(length: int) -> int:
    return masked_crc(struct.pack("<Q", length))
