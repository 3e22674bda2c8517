"""Steps of a text timing log that are written exactly as a logger writes them, found many at a time.

Nearly all of a log is such steps. Here its lines are looked at as arrays: the end of a line tells what it is,
the hash of its label whose time it tells. A step that differs from the pattern by a byte is left to the
reader of lines in `timing_text`, which reads the same out of the same bytes, more patiently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from deblurkit.analysis.formats.label_table import LABEL_BYTES, UNKNOWN, Label, LabelTable, PathTable
from deblurkit.analysis.formats.line_shapes import SHAPES, TOTAL_SHAPE, read_ends
from deblurkit.analysis.formats.words import windows

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_BEFORE = b"\n" * 64  # around a chunk, so that what is looked at never begins before it or ends behind it
_AFTER = b"\n" * LABEL_BYTES
_OTHER, _RULE, _STEP, _ROW, _TOTAL = range(5)
_STEP_WORD = b"Step "
_FEWEST = 3  # single steps between others are read as quickly line by line
_LINE_FEED, _EQUALS, _ZERO = 10, ord("="), np.uint8(ord("0"))
_MOST_DIGITS = 16
_POWERS: Ints = 10 ** np.arange(_MOST_DIGITS - 1, -1, -1)
_RULE_BEGINS, _STEP_BEGINS, _STEP_MASK = np.frombuffer(
    b"=" * 8 + _STEP_WORD + b"\0" * 3 + b"\xff" * len(_STEP_WORD) + b"\0" * 3, dtype=np.uint64
)


@dataclass(frozen=True)
class Blocks:
    """Steps that follow each other.

    Attributes:
        start, end: the bytes of the chunk that they take.
        numbers: of the steps.
        total_ms: what each step's last line says.
        step_of_row: of every row, the position of its step in ``numbers``.
        path_of_row: its full name, as an index into ``BlockFinder.paths``.
        milliseconds: of every row.
    """

    start: int
    end: int
    numbers: Ints
    total_ms: Floats
    step_of_row: Ints
    path_of_row: Ints
    milliseconds: Floats

    def table(self) -> tuple[list[int], Floats]:
        """Return the paths that occur, and their times (paths, steps), NaN where a step has no such row.

        Paths come in the order of their first rows; rows of the same path in one step are added up.
        """
        first_row = np.full(self.path_of_row.max() + 1, -1)
        first_row[self.path_of_row[::-1]] = np.arange(len(self.path_of_row))[::-1]
        used = np.argsort(first_row)[np.count_nonzero(first_row < 0) :]
        line = np.zeros(len(first_row), dtype=np.int64)
        line[used] = np.arange(len(used))
        cells = line[self.path_of_row] * len(self.numbers) + self.step_of_row
        size = len(used) * len(self.numbers)
        times: Floats = np.asarray(np.bincount(cells, self.milliseconds, size), dtype=np.float64)
        times[np.bincount(cells, minlength=size) == 0] = np.nan
        return used.tolist(), times.reshape(len(used), len(self.numbers))


class BlockFinder:
    """Finds steps in the chunks of a log, and knows its labels from one chunk to the next.

    Args:
        label: tells what the bytes of a line before its colon, without padding, stand for.
    """

    def __init__(self, label: Callable[[bytes], Label]) -> None:
        self._labels = LabelTable(label)
        self._paths = PathTable(self._labels)

    @property
    def paths(self) -> list[str]:
        """Full names, by the index that ``Blocks`` give."""
        return self._paths.names

    def find(self, chunk: bytes) -> Iterator[Blocks]:
        """Yield the steps of a chunk that are as they should be, in their order."""
        lines = _Lines.of(chunk, self._labels)
        first, last, numbers = lines.blocks()
        if not len(first):
            return
        rows_before = np.concatenate(([0], np.cumsum(last - first - 3)))
        step_of_row = np.repeat(np.arange(len(first)), np.diff(rows_before))
        rows = np.arange(rows_before[-1]) + (first + 3 - rows_before[:-1])[step_of_row]
        paths = self._paths.numbers(lines.labels[rows])
        milliseconds = lines.milliseconds[rows]
        for begin, end in _runs(first, last):
            inside = slice(rows_before[begin], rows_before[end])
            yield Blocks(
                start=int(lines.starts[first[begin]]) - len(_BEFORE),
                end=int(lines.ends[last[end - 1]]) - len(_BEFORE) + 1,
                numbers=numbers[begin:end],
                total_ms=lines.milliseconds[last[begin:end]],
                step_of_row=step_of_row[inside] - begin,
                path_of_row=paths[inside],
                milliseconds=milliseconds[inside],
            )


@dataclass(frozen=True)
class _Lines:
    """The lines of a chunk that are not empty, as arrays of one element a line.

    Attributes:
        text: the chunk with line feeds around it.
        starts, ends: where each line begins in ``text``, and its line feed.
        kinds: what each line is.
        labels: number of a row's label.
        depths: of a row's label.
        milliseconds: of a row or total.
    """

    text: bytes
    starts: Ints
    ends: Ints
    kinds: npt.NDArray[np.int8]
    labels: Ints
    depths: Ints
    milliseconds: Floats

    @classmethod
    def of(cls, chunk: bytes, table: LabelTable) -> _Lines:
        """Return the lines of a chunk."""
        text = b"".join((_BEFORE, chunk, _AFTER))
        line_feeds = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == _LINE_FEED)
        filled = np.flatnonzero(np.diff(line_feeds) > 1)
        starts, ends = line_feeds[filled] + 1, line_feeds[filled + 1]
        kinds = _frame_kinds(text, starts, ends)
        labels = np.full(len(starts), UNKNOWN, dtype=np.int64)
        milliseconds = np.zeros(len(starts))
        for shape in SHAPES:
            at, milliseconds_here = read_ends(text, ends, shape)
            numbers = table.numbers(text, starts[at], ends[at] - shape.length)
            is_whole = table.totals[numbers] if shape is TOTAL_SHAPE else numbers != UNKNOWN
            kinds[at[is_whole]] = _TOTAL if shape is TOTAL_SHAPE else _ROW
            labels[at], milliseconds[at] = numbers, milliseconds_here
        return cls(text, starts, ends, kinds, labels, table.depths[labels], milliseconds)

    def blocks(self) -> tuple[Ints, Ints, Ints]:
        """Return the first line, the last and the number of each step: rule, number, rule, rows, total."""
        marks = np.flatnonzero(self.kinds != _ROW)
        kinds = self.kinds[marks]
        total = 3 + np.flatnonzero(kinds[3:] == _TOTAL)
        first, second, last = marks[total - 3], marks[total - 1], marks[total]
        framed = (kinds[total - 3] == _RULE) & (kinds[total - 2] == _STEP) & (kinds[total - 1] == _RULE)
        whole = framed & (second - first == 2) & (last - second > 1) & (self.depths[second + 1] == 0)
        first, last = first[whole], last[whole]
        numbers, valid = self._step_numbers(first + 1)
        return first[valid], last[valid], numbers[valid]

    def _step_numbers(self, at: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Return the numbers in lines that begin as those of a step do, and which of them are such."""
        lengths = self.ends[at] - self.starts[at] - len(_STEP_WORD)
        digits = windows(self.text, self.ends[at] - _MOST_DIGITS, _MOST_DIGITS).view(np.uint8) - _ZERO
        digits *= np.arange(_MOST_DIGITS, 0, -1) <= lengths[:, None]
        valid = (digits < 10).all(axis=1) & (lengths > 0) & (lengths < _MOST_DIGITS)
        return digits @ _POWERS, valid


def _frame_kinds(text: bytes, starts: Ints, ends: Ints) -> npt.NDArray[np.int8]:
    """Return which lines are rules, and which begin as the number of a step does."""
    kinds = np.full(len(starts), _OTHER, dtype=np.int8)
    begins = windows(text, starts, 8)[:, 0]
    is_rule = (begins == _RULE_BEGINS) & (np.frombuffer(text, dtype=np.uint8)[ends - 1] == _EQUALS)
    kinds[is_rule] = _RULE
    kinds[begins & _STEP_MASK == _STEP_BEGINS] = _STEP
    return kinds


def _runs(first: Ints, last: Ints) -> Iterator[tuple[int, int]]:
    """Yield the (begin, end) of steps that follow each other without a line between them."""
    breaks = np.flatnonzero(first[1:] != last[:-1] + 1) + 1
    bounds = [0, *breaks.tolist(), len(first)]
    for begin, end in zip(bounds, bounds[1:], strict=False):
        if end - begin >= _FEWEST:
            yield begin, end
