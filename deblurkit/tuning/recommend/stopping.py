"""Ctrl-C and SIGTERM taken as a wish to have the answer now, from what is known by now."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

from deblurkit.training.interrupt import give_back_signals, take_signals

Result = TypeVar("Result")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Breaks off what may be broken off at the first signal, and lets all else come to its end.

    A second SIGINT interrupts whatever goes on; a further SIGTERM changes nothing.

    Attributes:
        signal_number: of the first signal, or 0; SIGINT for a KeyboardInterrupt that came without one.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._may_break = False
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    @property
    def is_asked(self) -> bool:
        """Whether the answer is wished for."""
        return self.signal_number != 0

    def __enter__(self) -> Stopping:
        """Take over the signals; in another thread than the main one this does nothing."""
        self._before = take_signals(_SIGNALS, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        give_back_signals(self._before)

    def attempt(self, work: Callable[[], Result], *, otherwise: Result) -> Result:
        """Return what ``work`` gives; ``otherwise`` where it was broken off, or was not to be begun."""
        try:
            self._may_break = True
            try:
                return otherwise if self.is_asked else work()
            finally:
                self._may_break = False
        except KeyboardInterrupt:
            self.signal_number = self.signal_number or signal.SIGINT
            return otherwise

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a child that was forked just now; stopping is not its affair
            return
        breaks = self._may_break or (self.is_asked and number == signal.SIGINT)
        self._may_break = False  # until what was broken off is put away
        self.signal_number = self.signal_number or number
        if breaks:
            raise KeyboardInterrupt
