"""Ctrl-C and SIGTERM taken as a wish to stop after the step that is running."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from deblurkit.errors import DeblurkitError


class InterruptedRun(DeblurkitError):
    """A run that was asked to stop and has saved what it had.

    Attributes:
        exit_code: 128 and the signal's number, as shells count it.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(message)


class StopRequest:
    """Holds back the first SIGINT or SIGTERM until somebody looks; a second one interrupts at once.

    Attributes:
        signal_number: the signal that asked to stop, or 0.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        """Take over the signals; in another thread than the main one this does nothing."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number:
            raise KeyboardInterrupt
        self.signal_number = number
