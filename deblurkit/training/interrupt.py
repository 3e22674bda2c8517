"""Ctrl-C, SIGTERM and SIGUSR1 taken as a wish to stop after the step that is running."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from deblurkit.errors import DeblurkitError

# Slurm's --signal=USR1@120 gives a run time to save before its end; unhandled, it would end it at once.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_PATIENCE = 1.0  # seconds that the end of a run waits for the word to be out


class InterruptedRun(DeblurkitError):
    """A run that was asked to stop and has saved what it had.

    Attributes:
        exit_code: 128 and the signal's number, as shells count it.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(message)


class StopRequest:
    """Holds back SIGINT, SIGTERM and SIGUSR1 until somebody looks; SIGINT after any of them interrupts.

    A further SIGTERM or SIGUSR1 changes nothing: `torchrun` passes on what its processes may have had
    already, and Slurm sends SIGTERM while a run that had SIGUSR1 may still be saving.

    Args:
        told: called at the first signal, in a thread of its own: what the signal came into the middle of may
            hold the lock of a stream or of a display, and would never give it back to a handler.

    Attributes:
        signal_number: the first signal that asked to stop, or 0.
    """

    def __init__(self, *, told: Callable[[], None] | None = None) -> None:
        self.signal_number = 0
        self._process = os.getpid()
        self._told = told
        self._teller: threading.Thread | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        """Take over the signals; in another thread than the main one this does nothing."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._teller is not None and self._teller.is_alive():  # an error may have hindered its start
            self._teller.join(timeout=_PATIENCE)

    def request(self, number: int) -> None:
        """Ask to stop as if signal ``number`` had come here: it has come to another process of the run."""
        if self.signal_number:
            return
        self.signal_number = number
        if self._told is not None:
            self._teller = threading.Thread(target=self._tell, daemon=True)
            self._teller.start()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if (
            os.getpid() != self._process
        ):  # a loader worker that was forked just now; stopping is not its affair
            return
        if self.signal_number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.request(number)

    def _tell(self) -> None:
        assert self._told is not None
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more: a closed terminal or stream
            self._told()
