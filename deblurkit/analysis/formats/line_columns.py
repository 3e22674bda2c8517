"""Numbers of a log, gathered line by line and kept as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

MOST_NAMES = 500
_LINES_AT_A_TIME = 4_096

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


Numbers: TypeAlias = tuple[tuple[str, ...], Sequence[float]]  # names, and a value for each
NO_NUMBERS: Numbers = ((), ())


class Column(NamedTuple):
    """The values of one name, and the rows that hold them."""

    rows: Ints
    values: Floats


class FixedColumns:
    """Rows of the same few numbers, one tuple a line."""

    def __init__(self, width: int) -> None:
        self._blocks: list[Floats] = []
        self._rows: list[tuple[float, ...]] = []
        self._width = width

    def __len__(self) -> int:
        return _LINES_AT_A_TIME * len(self._blocks) + len(self._rows)

    def add(self, row: tuple[float, ...]) -> None:
        """Append a row."""
        self._rows.append(row)
        if len(self._rows) == _LINES_AT_A_TIME:
            self._blocks.append(np.array(self._rows, dtype=np.float64))
            self._rows = []

    def arrays(self) -> list[Floats]:
        """Return the columns."""
        last = np.array(self._rows, dtype=np.float64).reshape(-1, self._width)
        return [np.ascontiguousarray(column) for column in np.concatenate([*self._blocks, last]).T]


class NamedColumns:
    """Numbers by name, each with the row it stands in; names beyond the 500th are left out.

    Attributes:
        has_left_out: whether there were more.
    """

    def __init__(self) -> None:
        self._blocks: dict[str, list[Column]] = {}
        self._names: tuple[str, ...] = ()
        self._rows: list[int] = []
        self._values: list[Sequence[float]] = []
        self.has_left_out = False

    def add(self, row: int, numbers: Numbers) -> None:
        """Append the numbers of a row."""
        names, values = numbers
        is_same = names is self._names or names == self._names
        if not is_same or len(self._rows) >= _LINES_AT_A_TIME:
            self._pack()
            self._names = names
        self._rows.append(row)
        self._values.append(values)

    def columns(self) -> Mapping[str, Column]:
        """Return what was gathered, names in the order of their first appearance."""
        self._pack()
        return {
            name: Column(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))
            for name, blocks in self._blocks.items()
        }

    def _pack(self) -> None:
        if not self._rows:
            return
        rows, table = np.array(self._rows, dtype=np.int64), np.array(self._values, dtype=np.float64)
        self._rows, self._values = [], []
        for place, name in enumerate(self._names):
            if name in self._blocks or len(self._blocks) < MOST_NAMES:
                self._blocks.setdefault(name, []).append(Column(rows, table[:, place].copy()))
            else:
                self.has_left_out = True
