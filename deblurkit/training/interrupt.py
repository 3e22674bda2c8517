"""Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP taken as a wish to stop after the step that is running."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from types import FrameType, TracebackType
from typing import Any, Self

from deblurkit.errors import DeblurkitError

# Slurm's --signal=USR1@120 gives a run time to save before its end; unhandled, it would end it at once. A
# terminal that is closed, or an ssh connection that is lost, sends SIGHUP.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
LAUNCHER = "DEBLURKIT_LAUNCHER"  # the environment's name of the process that has started this one
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PATIENCE = 1.0  # seconds that the end of a run waits for the word to be out


class InterruptedRun(DeblurkitError):
    """A run, or a search, that was asked to stop and has saved what it had.

    Attributes:
        signal_number: of the signal that asked.
        exit_code: 128 and that number, as shells count it.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        self.signal_number = int(signal_number)
        self.exit_code = 128 + signal_number
        super().__init__(message)


def heeded_signals() -> list[signal.Signals]:
    """Return the signals that stop a run; nohup has SIGHUP ignored, and so it stays."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in SIGNALS if not (is_ignored and number == signal.SIGHUP)]


def stop_with_launcher() -> None:
    """Have the kernel send this process SIGTERM when the one that has started it is gone, however it ended.

    Without it, ranks whose launcher was killed would train on, unseen. Only Linux can do it; where nobody has
    left word in the environment, nothing is done.

    Raises:
        DeblurkitError: if it is gone already.
    """
    launcher = os.environ.get(LAUNCHER)
    if launcher is None or sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # a C library without it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(launcher):
        raise DeblurkitError(f"process {launcher}, which has started this one, has ended")


def take_signals(
    numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]
) -> dict[signal.Signals, Any]:
    """Have ``handler`` called at signals, and return what was called before, for `give_back_signals`.

    In another thread than the main one, which alone gets signals, nothing is taken.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in numbers}


def give_back_signals(before: Mapping[signal.Signals, Any]) -> None:
    """Undo `take_signals`."""
    for number, handler in before.items():
        signal.signal(number, handler)


class StopRequest:
    """Holds back `heeded_signals` until somebody looks; SIGINT after any of them interrupts.

    A further one of the others changes nothing: `torchrun` passes on what its processes may have had
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
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Take over the signals; in another thread than the main one this does nothing."""
        self._before = take_signals(self._wanted(), self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        give_back_signals(self._before)
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

    def _wanted(self) -> list[signal.Signals]:
        return heeded_signals()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._process:  # not a loader worker that was forked just now: it is not its affair
            self._heed(number)

    def _heed(self, number: int) -> None:
        if self.signal_number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.request(number)

    def _tell(self) -> None:
        assert self._told is not None
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more: a closed terminal or stream
            self._told()
