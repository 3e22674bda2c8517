"""The ends of a timing log's lines, from the colon on: recognised and read as arrays of 8 bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deblurkit.analysis.formats.words import Words, equal_rows, windows

_LEAD = 6  # bytes before the colon that are looked at too, so that the number begins with a word
_LOOKED_AT = 64
_NUMBER_WORD = 1
_SHARE_WORD = 2
_HUNDREDTHS = np.array([1e6, 1e5, 1e4, 1e3, 1e2, 0, 1e1, 1])  # what the digits of 99999.99 stand for


def _word(text: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(text, "little"))


_ONE, _SIX, _CARRY = _word(b"\x01" * 8), _word(b"\x06" * 8), _word(b"\x10" * 8)
_NUMBER = _word(b"\x0f" * 5 + b"\0" + b"\x0f" * 2)  # low halves of its bytes, but for the point
_SHARE = _word(b"\0" * 4 + b"\x0f" * 3 + b"\0")  # likewise, of the share before its point
_NEEDED = _word(b"\0\0\0\0\x01\0\x01\x01")  # bytes of a number that must be digits
_LEADING = _word(b"\x01" * 4 + b"\0" * 4)  # bytes before which there may be spaces
_BYTE, _NIBBLE, _LOW_HALF = np.uint64(8), np.uint64(4), np.uint64(0x0F)


@dataclass(frozen=True)
class Shape:
    """How a line ends.

    Attributes:
        length: bytes from the colon on.
        mark: the byte that lies 19 before the line feed, which tells this shape from others; None any.
        last: the line's last byte.
        mask, literal: of the bytes, 6 of the label before them, which bits must be what.
        has_share: whether a share in percent follows the number.
    """

    length: int
    mark: int | None
    last: int
    mask: Words
    literal: Words
    has_share: bool

    @classmethod
    def of(cls, text: bytes, mark: bytes) -> Shape:
        """Return the shape of a sample in which each 9 stands for a digit or a space."""
        places = bytes(0x20 if byte == ord("9") else byte for byte in text)
        bits = bytes(0xE0 if byte == ord("9") else 0xFF for byte in text)
        return cls(
            length=len(text),
            mark=mark[0] if mark else None,
            last=text[-1],
            mask=np.frombuffer((b"\0" * _LEAD + bits).ljust(_LOOKED_AT, b"\0"), dtype=np.uint64),
            literal=np.frombuffer((b"\0" * _LEAD + places).ljust(_LOOKED_AT, b"\0"), dtype=np.uint64),
            has_share=b"%" in text,
        )


TOTAL_SHAPE = Shape.of(b": 99999.99ms", b"")
SHAPES = (
    Shape.of(b": 99999.99ms (999.9%) [avg: 99999.99ms]", b")"),
    Shape.of(b": 99999.99ms [avg: 99999.99ms]", b"s"),
    TOTAL_SHAPE,
)


def read_ends(
    text: bytes, ends: npt.NDArray[np.int64], shape: Shape
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return which lines end in a shape, and their milliseconds.

    Args:
        text: with 64 bytes or more before the first line and after the last.
        ends: where the line feed of each line is.
        shape: how a line has to end, in every byte.
    """
    buffer = np.frombuffer(text, dtype=np.uint8)
    likely = buffer[ends - 1] == shape.last
    if shape.mark is not None:
        likely &= buffer[ends - 19] == shape.mark
    at = np.flatnonzero(likely)
    words = windows(text, ends[at] - shape.length - _LEAD, _LOOKED_AT)
    values, valid = _numbers(words[:, _NUMBER_WORD])
    valid &= equal_rows(words & shape.mask, shape.literal)
    if shape.has_share:
        valid &= _strays(words[:, _SHARE_WORD], _SHARE) == 0
    return at[valid], values[valid]


def _numbers(words: Words) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return what words such as ``   12.34`` spell, and which of them do.

    Their bytes are known to be 0x20 to 0x3f and the sixth to be the point.
    """
    digits = words & _NUMBER
    is_digit = words >> _NIBBLE & _ONE
    wrong = (digits + _SIX) & _CARRY  # above 9
    wrong |= _strays(words, _NUMBER)
    wrong |= (is_digit & _NEEDED) ^ _NEEDED
    wrong |= (is_digit & _LEADING) << _BYTE & ~is_digit  # a space after a digit
    values = digits.view(np.uint8).reshape(-1, 8) @ _HUNDREDTHS / 100
    return values, wrong == 0


def _strays(words: Words, places: np.uint64) -> Words:
    """Return words that are not zero where one of the places holds 0x21 to 0x2f, so no digit and no space."""
    return words & places & ~((words >> _NIBBLE & _ONE) * _LOW_HALF)
