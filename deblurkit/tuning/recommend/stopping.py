"""Signals taken as a wish to have the answer now, from what is known by now."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from deblurkit.training.interrupt import SIGNALS, StopRequest

Result = TypeVar("Result")

_SAME = 0.5  # seconds: `timeout` and others send a signal to a process and to its group, which is one wish


class Stopping(StopRequest):
    """Breaks off what may be broken off at the first signal, and lets all else come to its end.

    A SIGINT later on interrupts whatever goes on; further ones of the others change nothing. Signals that
    are ignored, as in the background of a script or under nohup, stay so.

    Args:
        told: called at the first signal, in a thread of its own.
        clock: seconds.
    """

    def __init__(
        self, *, told: Callable[[], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(told=told)
        self._clock = clock
        self._asked_at = 0.0
        self._may_break = self._is_held = self._is_over = False

    @property
    def is_asked(self) -> bool:
        """Whether the answer is wished for."""
        return self.signal_number != 0

    def attempt(self, work: Callable[[], Result], *, otherwise: Result) -> Result:
        """Return what ``work`` gives; ``otherwise`` where it was broken off, or was not to be begun.

        Raises:
            KeyboardInterrupt: at a second SIGINT.
        """
        try:
            self._may_break = True
            try:
                return otherwise if self.is_asked else work()
            finally:
                self._may_break = False
        except KeyboardInterrupt:
            if self._is_over:
                raise
            self.signal_number = self.signal_number or signal.SIGINT
            return otherwise

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within an attempt, break nothing off in the block, but at its end.

        An exception that comes up in Python code that PyTorch calls from C++ may end the process.
        """
        before, self._may_break, self._is_held = self._may_break, False, True
        try:
            yield
        finally:
            self._may_break, self._is_held = before, False
        if before and self.is_asked:
            raise KeyboardInterrupt

    def _wanted(self) -> list[signal.Signals]:
        return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def _heed(self, number: int) -> None:
        breaks, self._may_break = self._may_break, False  # until what was broken off is put away
        if not self.is_asked:
            self._asked_at = self._clock()
            self.request(number)
        elif number == signal.SIGINT and self._clock() - self._asked_at >= _SAME:
            self._end()
        if breaks:
            raise KeyboardInterrupt

    def _end(self) -> None:
        if self._is_held:
            os._exit(128 + signal.SIGINT)  # children end with their parent
        self._is_over = True
        raise KeyboardInterrupt
