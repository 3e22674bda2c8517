"""The events of a log in their order, each kind once between two steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from deblurkit.analysis.formats import log_events
from deblurkit.analysis.formats.timestamps import Stamps
from deblurkit.analysis.formats.wall_time import Bools, WallTime
from deblurkit.analysis.tables import Event
from deblurkit.units import plural

_MOST_EVENTS = 10_000
_LONGEST_FIRST = ("validation", "checkpoint", "epoch")
OWN, PAUSED, BROKEN = 2, 1, 0  # an interval spent on steps alone, on something else too, on nobody knows what


class EventList:
    """Gathers events, and knows in which interval between two lines of steps each one lies."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._interval_of: list[int] = []  # each event: how many lines of steps came before it
        self._intervals = 0
        self._here: dict[str, int] = {}  # kinds in this interval, and their places in `_events`
        self._traceback = b""
        self._lost = 0

    def __len__(self) -> int:
        return len(self._events)

    def take(self, line: bytes, *, step: int | None, stamps: Stamps) -> None:
        """Take in a line that may tell of an event."""
        if self._traceback and log_events.inside_traceback(line):
            return
        if log_events.TRACEBACK in line:
            self._traceback = line
            return
        kind = log_events.kind_of(line)
        if self._traceback:
            kind, self._traceback = kind or "error", b""
        if kind is not None:
            self.add(kind, line, step=step, unix_s=stamps.find(line), seconds=log_events.seconds_of(line))

    def add(
        self,
        kind: str,
        line: bytes,
        *,
        step: int | None,
        unix_s: float,
        seconds: float | None = None,
        is_pause: bool = True,
    ) -> None:
        """Append an event, or add its seconds to that of its kind in this interval.

        Args:
            kind: see ``Event.kind``.
            line: that tells of it.
            step: the last one before it.
            unix_s: when; NaN unknown.
            seconds: how long it took, where the line says so.
            is_pause: whether it stands between two lines of steps, and may have taken time there.
        """
        place = self._here.get(kind)
        if place is not None:
            if seconds is not None:
                so_far = self._events[place]
                self._events[place] = replace(so_far, seconds=(so_far.seconds or 0.0) + seconds)
        elif len(self._events) >= _MOST_EVENTS:
            self._lost += 1
        else:
            if is_pause:
                self._here[kind] = len(self._events)
            when = unix_s if unix_s == unix_s else None
            self._events.append(Event(kind, log_events.event_text(line), step, when, seconds))
            self._interval_of.append(self._intervals)

    def end_interval(self, last_step: int | None) -> int:
        """Begin the next interval; return ``OWN``, ``PAUSED`` or ``BROKEN`` for the one that ends here."""
        self._intervals += 1
        if not self._here and not self._traceback:
            return OWN
        self.end_traceback(last_step)
        kinds = self._here.keys()
        spent = BROKEN if kinds & log_events.BREAKS else PAUSED if kinds & log_events.PAUSES else OWN
        self._here.clear()
        return spent

    def forget_interval(self, last_step: int | None) -> None:
        """Begin the interval again here: what was told in it so far lies before it."""
        self.end_traceback(last_step)
        self._here.clear()

    def end_traceback(self, last_step: int | None) -> None:
        """Note an error whose last line never came."""
        if self._traceback:
            self.add("error", self._traceback, step=last_step, unix_s=float("nan"))
            self._traceback = b""

    def count(self, kind: str) -> int:
        """Return how many events of a kind there are."""
        return sum(event.kind == kind for event in self._events)

    def finished(self, wall: WallTime, is_own: Bools) -> tuple[Event, ...]:
        """Return the events; of those in one interval the longest gets what its steps do not explain."""
        beside_s = wall.beside_s
        longest: dict[int, int] = {}
        for place, (event, interval) in enumerate(zip(self._events, self._interval_of, strict=True)):
            is_open = event.kind in log_events.PAUSES and event.seconds is None and interval < len(is_own)
            if is_open and not is_own[interval] and np.isfinite(beside_s[interval]):
                rival = longest.get(interval)
                if rival is None or _rank(event) < _rank(self._events[rival]):
                    longest[interval] = place
        for interval, place in longest.items():
            self._events[place] = replace(self._events[place], seconds=float(beside_s[interval]))
        return tuple(self._events)

    def notes(self) -> Iterator[str]:
        """Yield what is to say about the events, a sentence each."""
        if self._lost:
            yield f"{plural(self._lost, 'event')} after the {_MOST_EVENTS:,}th left out."


def _rank(event: Event) -> int:
    return _LONGEST_FIRST.index(event.kind)
