"""A log that is still being written: read once, and then only what was added, where its format allows.

Our own formats are read on from the last whole step. Any other is read again from its beginning whenever it
has changed, and so is a file that was replaced or cut. Nothing is kept from one run of the program to the
next: to resume is to read the file from its beginning.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from deblurkit.analysis.growth import Growth, growth_of
from deblurkit.analysis.readers import read_log
from deblurkit.analysis.tables import RunLog
from deblurkit.errors import DeblurkitError

_HEAD_BYTES = 1 << 20
_TAIL_BYTES = 1 << 20  # in which the end of the last whole step is looked for
_KNOWN_BYTES = 256  # before the place that was read to, by which the file is known again


@dataclass
class _Place:
    """Up to where a file was read.

    Attributes:
        log: what was in it; None before the first step.
        state: of the file when it was looked at last.
        growth: how it grows; None unknown, or in no way that could be used.
        at: bytes that were read.
        before: the last of these bytes.
        has_ended: whether the rest says that the run is over.
    """

    log: RunLog | None = None
    state: os.stat_result | None = None
    growth: Growth | None = None
    at: int = 0
    before: bytes = b""
    has_ended: bool = False


class GrowingLog:
    """The log in a file that grows.

    Args:
        path: of the file.

    Attributes:
        began_anew: whether the file, when it was last read, was another one than before, or a shorter one.
    """

    def __init__(self, path: Path) -> None:
        self.began_anew = False
        self._path = path
        self._place = _Place()

    @property
    def log(self) -> RunLog | None:
        """All that was read; None before the first step."""
        return self._place.log

    @property
    def has_ended(self) -> bool:
        """Whether the file says that the run is over; other formats than ours never do."""
        return self._place.has_ended and self.log is not None

    def read_on(self) -> bool:
        """Read what was added; return whether there was anything.

        Raises:
            DeblurkitError: if there is no step yet, or no format that is known.
            OSError: if the file cannot be opened.
        """
        with self._path.open("rb") as file:
            state = os.fstat(file.fileno())
            self.began_anew = not _goes_on(file, state, self._place)
            place = self._place = _Place() if self.began_anew else self._place
            looked_at, place.state = place.state, state
            place.growth = place.growth or growth_of(_bytes(file, 0, _HEAD_BYTES))
            if place.growth is not None:
                return _read_added(file, place, place.growth, source=str(self._path))
        if looked_at is not None and _version(looked_at) == _version(state):
            return False
        place.log = read_log(self._path)
        return True


def _goes_on(file: BinaryIO, state: os.stat_result, place: _Place) -> bool:
    """Return whether a file is the one that was read before, with nothing changed but its end."""
    if place.state is None:
        return True
    same = (state.st_dev, state.st_ino) == (place.state.st_dev, place.state.st_ino)
    if not same or state.st_size < place.state.st_size:
        return False
    return _bytes(file, place.at - len(place.before), len(place.before)) == place.before


def _read_added(file: BinaryIO, place: _Place, growth: Growth, *, source: str) -> bool:
    """Read the whole steps from ``place`` on; return whether there were any."""
    size = place.state.st_size if place.state is not None else 0
    start = max(place.at, size - _TAIL_BYTES)
    tail = _bytes(file, start, size - start)
    place.has_ended = growth.has_ended(tail)
    end = start + growth.whole(tail)
    if end <= start:
        return False
    stretch: Any = io.BufferedReader(_Stretch(file, place.at, end))
    try:
        added = growth.read(stretch, source=source)
    except DeblurkitError:
        if place.log is None:
            raise
        return False
    place.log = added if place.log is None else joined(place.log, added)
    place.at, place.before = end, _bytes(file, max(0, end - _KNOWN_BYTES), min(end, _KNOWN_BYTES))
    return True


def _version(state: os.stat_result) -> tuple[int, int]:
    return state.st_size, state.st_mtime_ns


def joined(first: RunLog, second: RunLog) -> RunLog:
    """Return two parts of one log, the second read after the first, as one."""
    scalars = dict(first.scalars)
    for name, frame in second.scalars.items():
        scalars[name] = _stacked(scalars[name], frame) if name in scalars else frame
    return replace(
        second,
        steps=_stacked(first.steps, second.steps),
        times=_stacked(first.times, second.times),
        num_steps=first.num_steps + second.num_steps,
        damaged_lines=first.damaged_lines + second.damaged_lines,
        notes=tuple(dict.fromkeys((*first.notes, *second.notes))),
        beside=(*first.beside, *second.beside),
        scalars=scalars,
        events=(*first.events, *second.events),
    )


def _stacked(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([first, second], ignore_index=True)


def _bytes(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)


class _Stretch(io.RawIOBase):
    """The bytes of a file from one place to another.

    Args:
        file: that is not read elsewhere meanwhile.
        start, end: first byte, and the one after the last.
    """

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._left = end - start
        file.seek(start)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer`` as far as the next bytes go; return how many came, 0 at the end."""
        data = self._file.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)
