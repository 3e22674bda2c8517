"""Labels and full names of a timing log's rows as numbers, looked up many at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from deblurkit.analysis.formats.words import Words, equal_rows, windows

Ints: TypeAlias = npt.NDArray[np.int64]
Array = TypeVar("Array", Ints, npt.NDArray[np.bool_])

LABEL_BYTES = 128  # the seed pads names to 40 code points, which may take 3 bytes each
UNKNOWN = -1
_USUAL_BYTES = 64
_WORDS = LABEL_BYTES // 8
_MOST_LABELS = 50_000
_FACTORS: Words = np.random.default_rng(1).integers(1 << 63, 1 << 64, _WORDS, dtype=np.uint64) | np.uint64(1)
_FIRST_BYTES = np.arange(LABEL_BYTES) < np.arange(LABEL_BYTES + 1)[:, None]
_MASKS: Words = np.where(_FIRST_BYTES, np.uint8(0xFF), np.uint8(0)).view(np.uint64)  # by length of a label


class Label(NamedTuple):
    """What the bytes before a row's colon stand for: how deep the row is indented, and its name."""

    depth: int
    name: str

    @property
    def is_total(self) -> bool:
        """Whether it is that of the line which closes a step."""
        return self.depth == 0 and self.name.rstrip(" -") == "Total"


class _Numbers:
    """Numbers by 64-bit key."""

    def __init__(self) -> None:
        self._keys: Words = np.zeros(1, dtype=np.uint64)  # in their order
        self._numbers: Ints = np.full(1, UNKNOWN, dtype=np.int64)

    def find(self, keys: Words) -> Ints:
        """Return the number of each key, -1 for an unknown one."""
        at = np.searchsorted(self._keys, keys)
        at[at == len(self._keys)] = 0
        return np.where(self._keys[at] == keys, self._numbers[at], UNKNOWN)

    def learn(self, keys: Words, numbers: list[int]) -> None:
        """Take in keys that are not known yet."""
        known = self._numbers != UNKNOWN
        all_keys = np.concatenate((self._keys[known], keys))
        order = np.argsort(all_keys)
        self._keys = all_keys[order]
        self._numbers = np.concatenate((self._numbers[known], np.array(numbers, dtype=np.int64)))[order]


class LabelTable:
    """The labels of a log, numbered in the order in which they are met.

    Args:
        label: tells what the bytes of a label without its padding stand for.

    Attributes:
        names: by number.
        depths: by number; the element after the last is that of the unknown label, -1.
        totals: by number, whether it is that of a step's last line; no for the unknown label.
    """

    def __init__(self, label: Callable[[bytes], Label]) -> None:
        self._label = label
        self._known = _Numbers()
        self._words: Words = np.zeros((1, _WORDS), dtype=np.uint64)
        self.names: list[str] = []
        self.depths: Ints = np.full(1, UNKNOWN, dtype=np.int64)
        self.totals = np.zeros(1, dtype=np.bool_)

    def numbers(self, text: bytes, starts: Ints, ends: Ints) -> Ints:
        """Return the number of each label between ``starts`` and ``ends``; -1 for none, or one too long."""
        lengths = ends - starts
        fits = (lengths > 0) & (lengths <= LABEL_BYTES)
        size = _USUAL_BYTES if (lengths <= _USUAL_BYTES).all() else LABEL_BYTES
        words = windows(text, starts, size)
        words &= _MASKS[:, : words.shape[1]].take(np.where(fits, lengths, 0), axis=0)
        keys: Words = words @ _FACTORS[: words.shape[1]]
        numbers = self._known.find(keys)
        new = fits & (numbers == UNKNOWN)
        if new.any():
            self._learn(keys[new], words[new], lengths[new])
            numbers = self._known.find(keys)
        same = equal_rows(words, self._words[:, : words.shape[1]].take(numbers, axis=0))
        return np.where(same, numbers, UNKNOWN)

    def _learn(self, keys: Words, words: Words, lengths: Ints) -> None:
        _, first = np.unique(keys, return_index=True)
        found = {at: words[at].tobytes()[: lengths[at]].rstrip() for at in np.sort(first).tolist()}
        labels = {at: self._label(raw) for at, raw in found.items() if raw}
        if len(self.names) + len(labels) > _MOST_LABELS:
            return
        learned = np.array(list(labels), dtype=np.int64)
        self._known.learn(keys[learned], list(range(len(self.names), len(self.names) + len(labels))))
        words = np.pad(words[learned], ((0, 0), (0, _WORDS - words.shape[1])))
        self._words = np.concatenate((self._words[:-1], words, self._words[-1:]))
        self.names += [label.name for label in labels.values()]
        self.depths = _extended(self.depths, [label.depth for label in labels.values()])
        self.totals = _extended(self.totals, [label.is_total for label in labels.values()])


class PathTable:
    """The full names of a log's rows: each label inside the row above it that is indented less.

    Args:
        labels: of the log.

    Attributes:
        names: full names by number; the first one is that of the whole step.
    """

    def __init__(self, labels: LabelTable) -> None:
        self._labels = labels
        self._known = _Numbers()
        self._number_of: dict[str, int] = {}
        self.names: list[str] = [""]

    def numbers(self, labels: Ints) -> Ints:
        """Return the number of each row's full name.

        Args:
            labels: numbers of known labels, of rows in their order; each step begins with one of depth 0.
        """
        depths = self._labels.depths[labels]
        numbers = np.zeros(len(labels), dtype=np.int64)
        for depth in range(depths.max() + 1):
            rows = np.flatnonzero(depths == depth)
            above = np.maximum.accumulate(np.where(depths < depth, np.arange(len(depths)), 0))
            parents = numbers[above[rows]] if depth else np.zeros(len(rows), dtype=np.int64)
            numbers[rows] = self._inside(parents, labels[rows])
        return numbers

    def _inside(self, parents: Ints, labels: Ints) -> Ints:
        keys = (parents << 32 | labels).astype(np.uint64)
        numbers = self._known.find(keys)
        new = np.flatnonzero(numbers == UNKNOWN)
        if len(new):
            _, first = np.unique(keys[new], return_index=True)
            learned = new[np.sort(first)]
            inside = zip(parents[learned].tolist(), labels[learned].tolist(), strict=True)
            self._known.learn(keys[learned], [self._number(*pair) for pair in inside])
            numbers = self._known.find(keys)
        return numbers

    def _number(self, parent: int, label: int) -> int:
        """Return the number of a label inside a parent; labels padded in two ways have the same name."""
        name = self._labels.names[label]
        path = f"{self.names[parent]}/{name}" if parent else name
        if path not in self._number_of:
            self._number_of[path] = len(self.names)
            self.names.append(path)
        return self._number_of[path]


def _extended(by_number: Array, more: list[int]) -> Array:
    """Return an array with elements put before its last one."""
    return np.concatenate((by_number[:-1], np.array(more, dtype=by_number.dtype), by_number[-1:]))
