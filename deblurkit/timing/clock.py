"""Clocks that a step can be timed with: the host's, and a CUDA device's without synchronising it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

Mark = Any  # what a clock's mark() gives back; only the same clock can read it


class Clock(Protocol):
    """Marks moments and tells the time between two of them, perhaps only later."""

    name: str

    def mark(self) -> Mark:
        """Return a mark of this moment."""
        ...

    def elapsed(self, start: Mark, end: Mark) -> float | None:
        """Return the seconds from ``start`` to ``end``, or None while they are not known yet."""
        ...

    def release(self, marks: Iterable[Mark]) -> None:
        """Take back marks that nobody will read again."""
        ...

    def wait(self) -> None:
        """Return once every mark made so far can be read; never called inside a step."""
        ...


class HostClock:
    """The host's monotonic clock: right for a CPU, blind to work that a GPU still has queued."""

    name = "host"

    mark = staticmethod(time.perf_counter_ns)  # itself, as a call around it would cost more than it does

    def elapsed(self, start: int, end: int) -> float:
        """Return the seconds between two marks."""
        return (end - start) * 1e-9

    def release(self, marks: Iterable[int]) -> None:
        """Do nothing: numbers need no taking back."""

    def wait(self) -> None:
        """Return at once: host marks are always readable."""


class CudaClock:
    """Events on the device's current stream, read with ``query()`` when the device has passed them.

    An interval is device time: host work that the device did not have to wait for does not count.
    """

    name = "cuda"

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._free: list[torch.cuda.Event] = []

    def mark(self) -> torch.cuda.Event:
        """Record a timing event on the current stream."""
        import torch

        event = self._free.pop() if self._free else torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def elapsed(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float | None:
        """Return the seconds between two events, or None while the device has not reached ``end``."""
        if not (start.query() and end.query()):
            return None
        return start.elapsed_time(end) / 1000

    def release(self, marks: Iterable[torch.cuda.Event]) -> None:
        """Keep events for reuse: making one costs more than recording it."""
        self._free.extend(marks)

    def wait(self) -> None:
        """Wait for the device; for the end of a run only."""
        import torch

        torch.cuda.synchronize(self.device)


def clock_for(device_type: str, device: torch.device | None = None) -> Clock:
    """Return the clock that tells the truth about a device: its events for ``cuda``, else the host's."""
    if device_type == "cuda" and device is not None:
        return CudaClock(device)
    return HostClock()
