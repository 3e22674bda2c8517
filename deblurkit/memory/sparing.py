"""Processes looked at no more closely than is needed: PSS takes the kernel a millisecond for 100 MiB."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from deblurkit.memory.processes import Process, ProcessReader

_CLOSE_LOOKS = 0.02  # of the time, that close looks may take


class OneLook:
    """What a reader tells at one moment: it is asked once, and once for each process.

    Args:
        reader: who tells of processes.
    """

    def __init__(self, reader: ProcessReader) -> None:
        self._reader = reader
        self._found: list[Process] | None = None
        self._closely: dict[int, Process] = {}

    def processes(self) -> list[Process]:
        """Return all that were seen, with RSS alone."""
        if self._found is None:
            self._found = self._reader.processes()
        return self._found

    def closely(self, process: Process) -> Process:
        """Return a process with all that may be seen of it."""
        if process.pid not in self._closely:
            self._closely[process.pid] = self._reader.closely(process)
        return self._closely[process.pid]


class Sparing:
    """A reader for one look after another, which looks closely as often as a share of the time allows.

    In between a process has the PSS, USS and rank that it had when it was last looked at; a new one is looked
    at in any case.

    Args:
        reader: who tells of processes.
        share: of the time, that close looks may take.
        clock: seconds.
    """

    def __init__(
        self,
        reader: ProcessReader,
        *,
        share: float = _CLOSE_LOOKS,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._reader, self._share, self._clock = reader, share, clock
        self._known: dict[tuple[int, float], Process] = {}
        self._began, self._cost = clock(), 0.0
        self._is_due = True

    def processes(self) -> list[Process]:
        """Return all that are seen, with RSS alone; with this a look begins."""
        now = self._clock()
        self._is_due = (now - self._began) * self._share >= self._cost
        if self._is_due:
            self._began, self._cost = now, 0.0
        found = self._reader.processes()
        there = {_key(process) for process in found}
        self._known = {key: process for key, process in self._known.items() if key in there}
        return found

    def closely(self, process: Process) -> Process:
        """Return a process with all that may be seen of it, or was when it was last looked at."""
        known = self._known.get(_key(process))
        if known is not None and not self._is_due:
            return replace(known, rss_bytes=process.rss_bytes)
        began = self._clock()
        found = self._known[_key(process)] = self._reader.closely(process)
        self._cost += self._clock() - began
        return found


def _key(process: Process) -> tuple[int, float]:
    return process.pid, process.started_at  # a number is given again
