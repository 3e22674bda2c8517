"""What must not cross a fork is told before and after it."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that a forked child must not carry on with as it is."""

    def before_fork(self) -> None:
        """Let go of what must not be duplicated, and let no other thread take it up again."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Begin anew."""
        ...


def watch(forkable: Forkable) -> None:
    """Tell ``forkable`` of this process's forks, as long as it lives."""
    _register()
    _watched.add(forkable)


class _Told(threading.local):
    """Those that this thread has told of a fork to come; they, and no others, are told after it."""

    def __init__(self) -> None:
        self.forkables: list[Forkable] = []


_watched: weakref.WeakSet[Forkable] = weakref.WeakSet()
_told = _Told()


@functools.cache
def _register() -> None:
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def _before() -> None:
    _told.forkables = list(_watched)
    for forkable in _told.forkables:
        forkable.before_fork()


def _in_parent() -> None:
    for forkable in _told.forkables:
        forkable.after_fork_in_parent()
    _told.forkables = []


def _in_child() -> None:
    for forkable in _told.forkables:
        forkable.after_fork_in_child()
    _told.forkables = []
