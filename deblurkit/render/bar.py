"""A progress bar with an ETA for work that counts up; where there is no terminal, a line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from deblurkit.render.lasting_stream import lasting
from deblurkit.units import format_duration

Move: TypeAlias = Callable[[str, int, int | None], None]

EVERY = 30.0  # seconds between the lines


@contextlib.contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that moves a bar on stderr, or writes a line every half minute."""
    with progress_bars() as move:
        if sys.stderr.isatty():
            move(description, 0, None)
        yield lambda done, total: move(description, done, total)


@contextlib.contextmanager
def progress_bars(*, clock: Callable[[], float] = time.monotonic) -> Iterator[Move]:
    """Yield a function of (what, done, total) that moves a bar for each kind of work, or writes lines."""
    if not sys.stderr.isatty():
        yield _Lines(clock).move
        return
    with Progress(*_columns(), console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def move(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=None)
            bar.update(tasks[what], completed=done, total=total)

        yield move


class _Lines:
    """Tells how far work has come, for a log: nothing of what is done in less than `EVERY`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began: dict[str, tuple[float, int]] = {}  # when work of a kind was first told of, and how much
        self._said = clock()

    def move(self, what: str, done: int, total: int | None) -> None:
        """Note how far one kind of work is, and say so if it is time."""
        now = self._clock()
        began, first = self._began.setdefault(what, (now, done))
        if now - self._said < EVERY or total is None or done >= total:  # of the end the results tell
            return
        self._said = now
        left = ""
        if done > first:
            left = f", {format_duration((now - began) * (total - done) / (done - first))} left"
        print(f"{what}: {done:,} of {total:,}{left}", file=lasting(sys.stderr), flush=True)


def _columns() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
