"""Where times of all threads come together until the step that they belong to is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from deblurkit.timing.clock import Clock, HostClock, Mark
from deblurkit.timing.records import Span, row_name
from deblurkit.timing.scopes import FULL, Noted, Recorder, cut

Interval = tuple[str, Mark, Mark, int, int]  # full name, start, end, weight, thread


class Collected:
    """What came in during one step.

    Everything is kept as it comes, and made into rows and intervals when these are asked for: between the
    phases of a step caches are cold, and every line of Python costs several times what it does otherwise.

    Attributes:
        logged: times that were measured elsewhere, (name, milliseconds).
        spans: (thread, what it logged).
        scopes: (thread, what it noted).
        summed: what was too much to keep one by one, None where there was nothing of that.
        own_thread: the one that closes the step.
    """

    __slots__ = ("_intervals", "logged", "own_thread", "scopes", "spans", "summed")

    def __init__(
        self,
        logged: Sequence[tuple[str, float]],
        spans: Sequence[tuple[int, Sequence[Span]]],
        scopes: Sequence[tuple[int, list[Noted]]],
        summed: Summed | None,
        own_thread: int,
    ) -> None:
        self.logged = logged
        self.spans = spans
        self.scopes = scopes
        self.summed = summed
        self.own_thread = own_thread
        self._intervals: list[Interval] | None = None

    @property
    def milliseconds(self) -> dict[str, float]:
        """Times that were measured elsewhere, by name as it was given."""
        rows = dict(self.summed.milliseconds) if self.summed is not None else {}
        for name, milliseconds in self.logged:
            rows[name] = rows.get(name, 0.0) + milliseconds
        return rows

    @property
    def scopes_summed(self) -> dict[str, float]:
        """Milliseconds of scopes that were not kept one by one, by name."""
        return self.summed.scopes.copy() if self.summed is not None else {}

    @property
    def dropped(self) -> int:
        """Marks that could not be kept."""
        return self.summed.dropped if self.summed is not None else 0

    @property
    def count(self) -> int:
        """How many times, scopes and spans there were."""
        kept = sum(len(own) for _, own in (*self.spans, *self.scopes))
        return len(self.logged) + kept + (self.summed.count if self.summed is not None else 0)

    @property
    def intervals(self) -> list[Interval]:
        """All scopes and spans; nothing may come in any more."""
        if self._intervals is None:
            self._intervals = [
                (row_name(name), start, end, weight, thread)
                for thread, spans in self.spans
                for name, start, end, weight in spans
            ]
            for thread, noted in self.scopes:
                self._intervals += [(name, start, end, 1, thread) for name, start, end in noted]
        return self._intervals

    @property
    def elsewhere(self) -> set[str]:
        """Top-level names whose scopes came from other threads than the one that closes the step."""
        others = [noted for thread, noted in self.scopes if thread != self.own_thread]
        if not others:
            return set()
        return {name.partition("/")[0] for noted in others for name, _, _ in noted}


class Summed:
    """What a step has too much of to keep one by one.

    Attributes:
        milliseconds: times that were measured elsewhere, by name as it was given.
        scopes: milliseconds of scopes by name.
        count: how many there were.
        dropped: marks that could not be kept.
    """

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self.scopes: dict[str, float] = {}
        self.count = 0
        self.dropped = 0


class Collector:
    """Takes times in from any thread.

    Its lists are only appended to, and cut at a length that was read before: single operations of a list, so
    nothing is lost and nothing is taken twice.

    Attributes:
        recorder: of the scopes.
    """

    def __init__(self, clock: Clock) -> None:
        self.recorder = Recorder(clock.mark, self._sum_up)
        self._clock = clock
        self._lock = threading.Lock()
        self._logged: list[tuple[str, float]] = []
        self._spans: list[tuple[int, Sequence[Span]]] = []
        self._summed: Summed | None = None

    def log(self, name: str, milliseconds: float) -> None:
        """Add a measured time; times of one name add up."""
        logged = self._logged
        logged.append((name, milliseconds))
        if len(logged) > FULL:
            self._sum_up()

    def log_spans(self, spans: Iterable[Span]) -> None:
        """Add intervals between two marks of the clock."""
        kept = spans if isinstance(spans, (list, tuple)) else list(spans)
        self._spans.append((threading.get_ident(), kept))

    def take(self) -> Collected:
        """Return what has come in since the last time."""
        with self._lock:
            summed, self._summed = self._summed, None
            return Collected(
                cut(self._logged), cut(self._spans), self.recorder.take(), summed, threading.get_ident()
            )

    def release(self, intervals: Iterable[Interval], *others: Mark, keep: Mark = None) -> None:
        """Give marks back to the clock, each once; not ``keep``, which is in use still."""
        if isinstance(self._clock, HostClock):
            return  # numbers need no taking back
        marks = {id(mark): mark for _, start, end, _, _ in intervals for mark in (start, end)}
        marks |= {id(mark): mark for mark in others}
        marks.pop(id(keep), None)
        self._clock.release(marks.values())

    def _sum_up(self) -> None:
        """Sum up times and scopes so far: a thread has noted too many to keep them one by one."""
        with self._lock:
            summed = self._summed = self._summed if self._summed is not None else Summed()
            for name, milliseconds in cut(self._logged):
                summed.milliseconds[name] = summed.milliseconds.get(name, 0.0) + milliseconds
                summed.count += 1
            for _, noted in self.recorder.take():
                summed.count += len(noted)
                for scope in noted:
                    self._add(scope, summed)
                self.release([(*scope, 1, 0) for scope in noted])

    def _add(self, scope: Noted, summed: Summed) -> None:
        name, start, end = scope
        seconds = self._clock.elapsed(start, end)
        if seconds is None:
            summed.dropped += 2
        else:
            summed.scopes[name] = summed.scopes.get(name, 0.0) + seconds * 1000
