"""Scopes: named blocks that every thread times into a list of its own, without a lock.

A thread alone adds to its list, and to its tree of names; whoever closes a step takes what is there. Both are
single operations of a list, so nothing is lost and nothing is taken twice.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from deblurkit.timing.clock import Mark
from deblurkit.timing.records import row_name

FULL = 50_000  # scopes that a thread notes before they are summed up, step or no step

Noted = tuple[str, Mark, Mark]  # full name, start, end
T = TypeVar("T")


def cut(noted: list[T]) -> list[T]:
    """Return what is in a list and take it out; what other threads append meanwhile stays in it."""
    count = len(noted)
    taken = noted[:count]
    del noted[:count]
    return taken


class _Place:
    """A name inside the names that are open around it, in one thread; made once, then found again."""

    __slots__ = ("children", "name", "noted", "parent", "path", "start")

    def __init__(self, name: str, parent: _Place | None, noted: list[Noted]) -> None:
        self.name = name
        self.path: str = f"{parent.path}/{name}" if parent is not None and parent.path else name
        self.parent = parent
        self.children: dict[str, _Place] = {}
        self.noted = noted
        self.start: Mark = None


class _Here:
    """Where a thread is; lives as long as the thread does."""

    __slots__ = ("__weakref__", "place")

    def __init__(self, place: _Place) -> None:
        self.place = place


class _Threads(threading.local):
    """Gives each thread its own ``here``."""

    def __init__(self, begin: Callable[[], _Here]) -> None:
        self.here = begin()


class Recorder:
    """Holds what the scopes of all threads have noted, until it is taken.

    Args:
        mark: a clock's.
        on_full: called in a thread that has noted `FULL` scopes; it should see to it that they are taken.
    """

    def __init__(self, mark: Callable[[], Mark], on_full: Callable[[], None] = lambda: None) -> None:
        self.mark = mark
        self.on_full = on_full
        self._sources: list[tuple[weakref.ref[_Here], int, list[Noted]]] = []
        self.threads = _Threads(self._begin)
        self.lost = 0  # scopes that were left in another order than they were entered, or in another thread

    def take(self) -> list[tuple[int, list[Noted]]]:
        """Return (thread, what it noted since the last time); one caller at a time.

        A thread that has ended is forgotten once its list is empty for good.
        """
        taken = []
        for source in tuple(self._sources):
            here, thread, noted = source
            has_ended = here() is None  # asked first: after that, nothing more can come
            if noted:
                taken.append((thread, cut(noted)))
            if has_ended:
                self._sources.remove(source)
        return taken

    @property
    def num_threads(self) -> int:
        """Number of threads that are remembered."""
        return len(self._sources)

    def _begin(self) -> _Here:
        noted: list[Noted] = []
        here = _Here(_Place("", None, noted))
        self._sources.append((weakref.ref(here), threading.get_ident(), noted))
        return here


class Scope:
    """Times its block; one object serves every use of its name, in any thread, also nested."""

    __slots__ = ("_mark", "_name", "_recorder", "_threads")

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._name = sys.intern(row_name(name))
        self._recorder = recorder
        self._mark = recorder.mark
        self._threads = recorder.threads

    def __enter__(self) -> None:
        """Begin the interval, inside whatever scope this thread has open."""
        here = self._threads.here
        try:
            place = here.place.children[self._name]
        except KeyError:
            place = _Place(self._name, here.place, here.place.noted)
            here.place.children[self._name] = place
        here.place = place
        place.start = self._mark()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the interval, also where the block raised."""
        end = self._mark()
        here = self._threads.here
        place = here.place
        if place.name is not self._name or place.parent is None:
            self._leave_out_of_order(here, end)
            return
        here.place = place.parent
        noted = place.noted
        noted.append((place.path, place.start, end))
        if len(noted) > FULL:
            self._recorder.on_full()

    def _leave_out_of_order(self, here: _Here, end: Mark) -> None:
        """Leave a scope from around others that are open still, as a generator can; they are lost."""
        self._recorder.lost += 1
        place: _Place | None = here.place
        while place is not None and place.name is not self._name:
            place = place.parent
        if place is not None and place.parent is not None:
            here.place = place.parent
            place.noted.append((place.path, place.start, end))
