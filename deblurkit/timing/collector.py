"""Where times of all threads come together until the step that they belong to is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from deblurkit.timing.clock import Clock, HostClock, Mark
from deblurkit.timing.records import Span, clean_name
from deblurkit.timing.scopes import Noted, Recorder

Interval = tuple[str, Mark, Mark, int, int]  # full name, start, end, weight, thread


class Collected:
    """What came in during one step.

    Spans and scopes are kept as they come, and made into intervals when these are asked for: between the
    phases of a step caches are cold, and every line of Python costs several times what it does otherwise.

    Attributes:
        milliseconds: times that were measured elsewhere, by name.
        summed: milliseconds of scopes that were too many to keep one by one, by name.
        spans: (thread, what it logged).
        scopes: (thread, what it noted).
        own_thread: the one that closes the step.
        count: how many times, scopes and spans there were.
        dropped: marks that could not be kept.
    """

    __slots__ = ("_intervals", "count", "dropped", "milliseconds", "own_thread", "scopes", "spans", "summed")

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self.summed: dict[str, float] = {}
        self.spans: list[tuple[int, Sequence[Span]]] = []
        self.scopes: list[tuple[int, list[Noted]]] = []
        self.own_thread = 0
        self.count = 0
        self.dropped = 0
        self._intervals: list[Interval] | None = None

    @property
    def intervals(self) -> list[Interval]:
        """All scopes and spans; nothing may come in any more."""
        if self._intervals is None:
            self._intervals = [
                (clean_name(span.name), span.start, span.end, span.weight, thread)
                for thread, spans in self.spans
                for span in spans
            ]
            for thread, noted in self.scopes:
                self._intervals += [(name, start, end, 1, thread) for name, start, end in noted]
        return self._intervals

    @property
    def elsewhere(self) -> set[str]:
        """Top-level names whose scopes came from other threads than the one that closes the step."""
        others = (noted for thread, noted in self.scopes if thread != self.own_thread)
        return {name.partition("/")[0] for noted in others for name, _, _ in noted}


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
        kept = spans if isinstance(spans, (list, tuple)) else list(spans)
        with self._lock:
            self._now.spans.append((threading.get_ident(), kept))
            self._now.count += len(kept)

    def take(self) -> Collected:
        """Return what has come in since the last time."""
        with self._lock:
            now, self._now = self._now, Collected()
            now.scopes = self.recorder.take()
        now.own_thread = threading.get_ident()
        for _, noted in now.scopes:
            now.count += len(noted)
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
