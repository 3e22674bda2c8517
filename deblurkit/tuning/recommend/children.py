"""Work done in child processes that may die of it: each has one piece at a time, and others go on."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeAlias, TypeVar

import torch

from deblurkit.config.schema import Config
from deblurkit.data.parallel import end_with_parent, without_interrupt
from deblurkit.data.workers import available_cpus
from deblurkit.errors import DeblurkitError
from deblurkit.memory.limits import host_limits, tightest
from deblurkit.tuning.side_by_side import processes_for

Job = TypeVar("Job")
Result = TypeVar("Result")
Guard: TypeAlias = Callable[[], contextlib.AbstractContextManager[None]]

_ENDS_WITHIN = 5.0  # seconds, once it is told to
_MISTAKES = (DeblurkitError, RuntimeError, ValueError)  # what a piece of work may end in


def children_for(jobs: int, config: Config) -> int:
    """Return how many child processes are to take so many steps on fake tensors.

    As many as find room on this machine; none where a step is taken sooner than a process has begun.
    """
    if config.model.arch != "vrt":
        return 0
    room = tightest(host_limits())
    there = None if room is None else room.available_bytes
    return max(1, min(jobs, processes_for(cpus=available_cpus(), available_bytes=there)))


def in_children(
    function: Callable[[Job], Result],
    *,
    next_job: Callable[[], Job | None],
    take: Callable[[Job, Result | Exception], None],
    workers: int,
    guard: Guard = contextlib.nullcontext,
) -> None:
    """Call ``function`` on one job after the other in child processes, as long as there are any.

    Children compute on one thread each, do not heed Ctrl-C, and are gone when this returns or raises.

    Args:
        function: at module level, so that it can be sent to a process.
        next_job: gives the next one; None where there is none now. Asked again when others are done.
        take: told what has come of each: its result, or the error it ended in, that the child was killed
            included.
        workers: child processes at most; 0 does everything in this one.
        guard: entered around each piece of work that is done in this one.
    """
    if workers == 0:
        while (job := next_job()) is not None:
            with guard():
                outcome = _outcome(function, job)
            take(job, outcome)
        return
    with contextlib.ExitStack() as stack:
        idle: list[_Child[Job, Result]] = []
        busy: dict[Connection, tuple[_Child[Job, Result], Job]] = {}
        while True:
            while len(busy) < workers and (job := next_job()) is not None:
                child = idle.pop() if idle else stack.enter_context(_child(function))
                busy[child.connection] = child, job
                child.begin(job)
            if not busy:
                return
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                child, job = busy.pop(ready)
                outcome = child.outcome()
                if child.is_there:
                    idle.append(child)
                take(job, outcome)


class _Child(Generic[Job, Result]):
    """A child process, as its parent sees it.

    Attributes:
        connection: on which it answers.
        is_there: whether it can do more.
    """

    def __init__(self, function: Callable[[Job], Result]) -> None:
        context = multiprocessing.get_context("spawn")  # a forked copy of a process with threads may hang
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, function), daemon=True)
        self.is_there = True
        with without_interrupt():
            self._process.start()
        theirs.close()  # so that its end is seen here

    def begin(self, job: Job) -> None:
        """Give it a job; that it is gone already is seen when it is asked for the outcome."""
        with contextlib.suppress(OSError):
            self.connection.send(job)

    def outcome(self) -> Result | Exception:
        """Return what has come of its job, or an error that says how it ended."""
        try:
            found: Result | Exception = self.connection.recv()
        except (EOFError, OSError):
            self.is_there = False
            return DeblurkitError(f"its process {self._ending()}")
        return found

    def end(self) -> None:
        """End it, whatever it is doing."""
        self._process.terminate()
        self._process.join(_ENDS_WITHIN)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.connection.close()

    def _ending(self) -> str:
        self._process.join(_ENDS_WITHIN)
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"has ended with exit code {code}"
        return f"was killed by {signal.Signals(-code).name}: out of memory, perhaps"


@contextlib.contextmanager
def _child(function: Callable[[Job], Result]) -> Iterator[_Child[Job, Result]]:
    child: _Child[Job, Result] = _Child(function)
    try:
        yield child
    finally:
        child.end()


def _work(connection: Connection, function: Callable[[Job], Result]) -> None:
    """Answer every job with its outcome, until nobody asks any more."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            connection.send(_outcome(function, connection.recv()))


def _outcome(function: Callable[[Job], Result], job: Job) -> Result | Exception:
    try:
        return function(job)
    except _MISTAKES as error:
        return DeblurkitError(str(error).partition("\n")[0] or type(error).__name__)
