"""Lines such as ``[1,0.500,2.0000,null]`` as one table, in half the time that a reader of JSON takes."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from deblurkit.analysis.formats.words import Words, windows

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_SIZE = 16  # bytes that are looked at for a number, up to its end
_LONGEST = 15  # digits that a float64 holds exactly
_PADDING = b" " * _SIZE
_COMMA, _OPEN, _CLOSE, _LINE_FEED, _ZERO = b",[]\n0"
_LAST_BYTES = np.arange(_SIZE) >= _SIZE - np.arange(_SIZE + 1)[:, None]
_MASKS: Words = np.where(_LAST_BYTES, np.uint8(0xFF), np.uint8(0)).view(np.uint64)  # by length of a number
_NULL = np.uint64(int.from_bytes(b"null", "little") << 32)
_NULL_MASK = np.uint64(0xFFFFFFFF << 32)


def _words(text: bytes) -> Words:
    return np.frombuffer(text, dtype=np.uint64)


_ABOVE_NINE, _HIGH = _words(b"\x76" * 8), _words(b"\x80" * 8)
_FOLDS = (
    (np.uint64(10), np.uint64(8), np.uint64(0x00FF00FF00FF00FF)),
    (np.uint64(100), np.uint64(16), np.uint64(0x0000FFFF0000FFFF)),
    (np.uint64(10_000), np.uint64(32), np.uint64(0x00000000FFFFFFFF)),
)


def number_rows(text: bytes, *, decimals: tuple[int, ...]) -> Floats | None:
    """Return lines of numbers as (lines, numbers), NaN for null; None for text that is anything else.

    Args:
        text: ``[``, numbers or nulls with commas between, ``]`` and a line feed but after the last line.
        decimals: of the first numbers of each line; the last element is that of all further ones too.
    """
    padded = b"".join((_PADDING, text))
    places = _places(padded)
    if places is None:
        return None
    begins, ends = places
    table = np.empty(ends.shape)
    for first, count in enumerate(decimals):
        columns = slice(first, first + 1 if first + 1 < len(decimals) else None)
        numbers = _numbers(padded, begins[:, columns].ravel(), ends[:, columns].ravel(), count)
        if numbers is None:
            return None
        table[:, columns] = numbers.reshape(len(table), -1)
    return table


def _places(text: bytes) -> tuple[Ints, Ints] | None:
    """Return where numbers begin and end as (lines, numbers); None where not all lines hold as many."""
    buffer = np.frombuffer(text, dtype=np.uint8)
    marks = np.flatnonzero((buffer == _COMMA) | (buffer == _CLOSE))
    closes = np.flatnonzero(buffer[marks] == _CLOSE) + 1
    width = int(closes[0]) if len(closes) else 0
    if not width or not np.array_equal(closes, np.arange(width, len(marks) + width, width)):
        return None
    ends: Ints = marks.reshape(-1, width)
    opens = np.minimum(np.concatenate(([_SIZE], ends[:-1, -1] + 2)), len(text) - 1)
    is_framed = (buffer[opens] == _OPEN).all() and (buffer[opens[1:] - 1] == _LINE_FEED).all()
    if not is_framed or ends[-1, -1] != len(text) - 1:
        return None
    return np.column_stack((opens, ends[:, :-1])) + 1, ends


def _numbers(text: bytes, begins: Ints, ends: Ints, decimals: int) -> Floats | None:
    """Return numbers of so many decimals, NaN for null; None where one of them is not such."""
    lengths = ends - begins
    words = windows(text, ends - _SIZE, _SIZE)
    is_null = (lengths == 4) & (words[:, 1] & _NULL_MASK == _NULL)
    shortest = decimals + 2 if decimals else 1
    wrong = (lengths < shortest) | (lengths > _LONGEST)
    wrong |= (np.frombuffer(text, dtype=np.uint8)[begins] == _ZERO) & (lengths > shortest)
    point = _SIZE - 1 - decimals if decimals else _SIZE
    sample = _words((b"0" * point + b"." + b"0" * _SIZE)[:_SIZE])
    digits = (words ^ sample) & _MASKS.take(np.minimum(lengths, _SIZE), axis=0)
    high, low = digits[:, 0], digits[:, 1]
    wrong |= ((high + _ABOVE_NINE | high | low + _ABOVE_NINE | low) & _HIGH) != 0
    wrong |= low & _words((b"\0" * point + b"\xff" + b"\0" * _SIZE)[:_SIZE])[1] != 0
    if (wrong & ~is_null).any():
        return None
    spelled = _folded(high) * 10**8 + _folded(low)
    if decimals:  # the point stands for a digit of zero
        whole, fraction = np.divmod(spelled, 10 ** (decimals + 1))
        spelled = whole * 10**decimals + fraction
    return np.where(is_null, np.nan, spelled / 10**decimals)


def _folded(digits: Words) -> Ints:
    """Return the number that 8 digits each spell, the first of them in the lowest byte."""
    for factor, shift, mask in _FOLDS:
        digits = (digits * factor + (digits >> shift)) & mask
    return digits.astype(np.int64)
