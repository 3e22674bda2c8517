"""Where times of all threads come together until the step that they belong to is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from deblurkit.timing.clock import Clock, HostClock, Mark
from deblurkit.timing.records import Span, clean_name
from deblurkit.timing.scopes import Noted, Recorder

Interval = tuple[str, Mark, Mark, int, int]  # full name, start, end, weight, thread


@dataclass(slots=True)
class Collected:
    """What came in during one step.

    Attributes:
        milliseconds: times that were measured elsewhere, by name.
        summed: milliseconds of scopes that were too many to keep one by one, by name.
        intervals: all other scopes and spans.
        count: how many times, scopes and spans there were.
        elsewhere: top-level names that came from other threads than the one that closes the step.
        dropped: marks that could not be kept.
    """

    milliseconds: dict[str, float] = field(default_factory=dict)
    summed: dict[str, float] = field(default_factory=dict)
    intervals: list[Interval] = field(default_factory=list)
    count: int = 0
    elsewhere: set[str] = field(default_factory=set)
    dropped: int = 0


class Collector:
    """Takes times in from any thread.

    Attributes:
        recorder: of the scopes.
    """

    def __init__(self, clock: Clock) -> None:
        self.recorder = Recorder(clock.mark, self._sum_up)
        self._clock = clock
        self._lock = threading.Lock()
        self._now = Collected()

    def log(self, name: str, milliseconds: float) -> None:
        """Add a measured time; times of one name add up."""
        with self._lock:
            now = self._now
            now.milliseconds[name] = now.milliseconds.get(name, 0.0) + milliseconds
            now.count += 1

    def log_spans(self, spans: Iterable[Span]) -> None:
        """Add intervals between two marks of the clock."""
        thread = threading.get_ident()
        intervals = [(clean_name(span.name), span.start, span.end, span.weight, thread) for span in spans]
        with self._lock:
            self._now.intervals += intervals
            self._now.count += len(intervals)

    def take(self) -> Collected:
        """Return what has come in since the last time."""
        own = threading.get_ident()
        with self._lock:
            now, self._now = self._now, Collected()
            for thread, noted in self.recorder.take():
                now.count += len(noted)
                now.intervals += [(name, start, end, 1, thread) for name, start, end in noted]
                if thread != own:
                    now.elsewhere.update({name.partition("/")[0] for name, _, _ in noted})
        return now

    def release(self, intervals: Iterable[Interval], *others: Mark, keep: Mark = None) -> None:
        """Give marks back to the clock, each once; not ``keep``, which is in use still."""
        if isinstance(self._clock, HostClock):
            return  # numbers need no taking back
        marks = {id(mark): mark for _, start, end, _, _ in intervals for mark in (start, end)}
        marks |= {id(mark): mark for mark in others}
        marks.pop(id(keep), None)
        self._clock.release(marks.values())

    def _sum_up(self) -> None:
        """Sum up the scopes so far: a thread has noted too many to keep them one by one."""
        with self._lock:
            for _, noted in self.recorder.take():
                self._now.count += len(noted)
                for scope in noted:
                    self._add(scope)
                self.release([(*scope, 1, 0) for scope in noted])

    def _add(self, scope: Noted) -> None:
        name, start, end = scope
        seconds = self._clock.elapsed(start, end)
        if seconds is None:
            self._now.dropped += 2
        else:
            self._now.summed[name] = self._now.summed.get(name, 0.0) + seconds * 1000
