"""Jobs in processes: counted while they run, stopped cleanly, and never outliving who started them."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from deblurkit.errors import DataError

Job = TypeVar("Job")
Result = TypeVar("Result")
Tick = Callable[[], None]
Progress = Callable[[int, int], None]  # done, in all

_POLL_SECONDS = 0.2


class Stopped(Exception):
    """Raised inside a job that another job's error, or Ctrl-C, has made pointless."""


@dataclass(frozen=True)
class _Shared:
    """What a worker and its parent both see; every job writes its own count, so that nothing is locked."""

    counts: Any  # RawArray of one number a job
    stop: Any  # RawValue, not zero when all are to stop


_shared: _Shared | None = None


def run_jobs(
    function: Callable[[Job, Tick], Result],
    jobs: Sequence[Job],
    *,
    workers: int,
    total: int,
    progress: Progress | None = None,
) -> list[Result]:
    """Return ``function(job, tick)`` of every job, in the order of the jobs.

    Args:
        function: at module level, so that it can be sent to a process; calls ``tick`` after each piece of
            work, which may raise to end it.
        jobs: what it is called with.
        workers: processes; 1 runs everything in this one.
        total: pieces of work in all jobs.
        progress: told the pieces done and ``total``.

    Raises:
        DataError: if a worker was killed; and whatever a job raises, once the others have stopped.
    """
    report = progress or (lambda done, total: None)
    if min(workers, len(jobs)) <= 1:
        done = iter(range(1, total + 1))
        return [function(job, lambda: report(next(done, total), total)) for job in jobs]
    context = multiprocessing.get_context("spawn")  # a forked copy of a process with threads may hang
    shared = _Shared(context.RawArray(ctypes.c_int64, len(jobs)), context.RawValue(ctypes.c_byte, 0))
    with ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=context, initializer=_begin, initargs=(shared,)
    ) as pool:
        futures = [pool.submit(_run, function, job, index) for index, job in enumerate(jobs)]
        with _stopping(shared, pool):
            pending = set(futures)
            while pending:
                done_now, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
                report(sum(shared.counts), total)
                for future in done_now:
                    future.result()
        return [future.result() for future in futures]


@contextlib.contextmanager
def _stopping(shared: _Shared, pool: ProcessPoolExecutor) -> Iterator[None]:
    """On an error, wait until the workers have put down what they hold."""
    try:
        yield
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process was killed: out of memory, perhaps; fewer workers need less, and the same "
            "command again goes on from what is done"
        ) from error
    except BaseException:
        shared.stop.value = 1
        pool.shutdown(cancel_futures=True)
        raise


def _begin(shared: _Shared) -> None:
    """Prepare a worker: Ctrl-C is its parent's affair, and it ends when its parent does."""
    global _shared
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait until the parent of this process is gone, however it ended, and end it then; for a thread."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def without_interrupt() -> Iterator[None]:
    """Hold SIGINT back, here for the moment, and for good in processes that are started meanwhile.

    A child that ignores it by itself can do so only once it has imported what it needs, and Ctrl-C in these
    seconds would have each print a traceback.
    """
    resource_tracker.ensure_running()  # which is begun with the first child else, and lets signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run(function: Callable[[Job, Tick], Result], job: Job, index: int) -> Result:
    shared = _shared
    assert shared is not None, "the pool has called _begin"

    def tick() -> None:
        shared.counts[index] += 1
        if shared.stop.value:
            raise Stopped

    if shared.stop.value:
        raise Stopped
    return function(job, tick)
