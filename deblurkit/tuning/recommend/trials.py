"""A few steps of a candidate, in a process that may run out of memory, hang or be killed without harm."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO

import psutil

from deblurkit.config.schema import as_values
from deblurkit.memory.pressure import OomCount, oom_counts
from deblurkit.training.interrupt import LAUNCHER
from deblurkit.tuning.recommend.records import Candidate, Trial
from deblurkit.tuning.recommend.trial_request import TrialAnswer, TrialRequest, answer_in
from deblurkit.units import format_bytes, format_duration

_PROGRAM = ("-m", "deblurkit.tuning.recommend.trial_child")
_LOOK_EVERY = 0.2  # seconds
_GRACE = 3.0  # seconds between SIGTERM and SIGKILL
_TAIL = 2**16  # bytes at the end of what a process has said
_WORTH_A_LOOK = 1.02  # times the RSS of the last look at PSS: the kernel walks all pages for that

# As the command line sets them for itself before PyTorch is loaded.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "MKL_CBWR": "AUTO"}


def run_trial(
    candidate: Candidate,
    *,
    steps: int = 8,
    warmup: int = 2,
    least_seconds: float = 1.5,
    limit_seconds: float = 300.0,
    device_bytes: int | None = None,
    host_bytes: int | None = None,
    use_data: bool = False,
    follow_memory: bool = False,
    python: str = sys.executable,
    program: tuple[str, ...] = _PROGRAM,
) -> Trial:
    """Return what came of a few steps of a candidate on one device; nothing that happens to them is raised.

    Ctrl-C does not reach the process, which is ended by what it raises here.

    Args:
        candidate: of one device.
        steps: that are timed, at least.
        warmup: steps before them.
        least_seconds: that the timed steps take together; at most ten times as many are taken for that.
        limit_seconds: after which the process is ended.
        device_bytes: most that PyTorch may take of a GPU; None: all that is there.
        host_bytes: most that the process may hold before it is ended; None: without bound.
        use_data: take clips by the run's loader; otherwise they are random and of the configured size.
        follow_memory: on a CPU, take a further step whose tensors are followed.
        python: interpreter of the process.
        program: its arguments.
    """
    assert candidate.devices == 1, "a search estimates what several devices do, and never tries it"
    request = TrialRequest(
        config=as_values(candidate.config),
        steps=steps,
        warmup=warmup,
        least_seconds=least_seconds,
        use_data=use_data,
        follow_memory=follow_memory,
        device_bytes=device_bytes,
    )
    began = time.monotonic()
    answer, most_bytes = _attempted(
        (python, *program), request, limit_seconds=limit_seconds, host_bytes=host_bytes
    )
    return Trial(
        key=candidate.key,
        outcome=answer.outcome,
        detail=answer.detail,
        seconds=time.monotonic() - began,
        step_seconds=answer.step_seconds,
        phases=answer.phases,
        peak_bytes=answer.peak_bytes,
        host_bytes=most_bytes,
        reserved_bytes=answer.reserved_bytes,
        ran_out=answer.ran_out,
    )


def _attempted(
    command: tuple[str, ...], request: TrialRequest, *, limit_seconds: float, host_bytes: int | None
) -> tuple[TrialAnswer, int | None]:
    """Return what a process has answered or how it has ended, and the most bytes that it was seen to hold."""
    kills = _kills(oom_counts())
    try:
        with _started(command, request) as child:
            watch = _Watch(child, has_workers=request.use_data)
            cause = watch.until_its_end(limit_seconds=limit_seconds, host_bytes=host_bytes)
            _end(child.process)
            return _result(child, cause, kills_before=kills), watch.most_bytes
    except OSError as error:
        return TrialAnswer("failed", f"no process could be started: {error.strerror}"), None


def _result(child: _Child, cause: TrialAnswer | None, *, kills_before: Mapping[str, int]) -> TrialAnswer:
    """Return what came of the steps; an answer counts, even where its process did not end in time."""
    answer = child.answer()
    if answer is not None and (cause is None or cause.outcome == "timed out"):
        return answer
    return cause or _without_answer(child, kills_before=kills_before)


class _Child:
    """A trial's process, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes], out: IO[bytes], said: IO[bytes]) -> None:
        self.process = process
        self._out, self._said = out, said

    def answer(self) -> TrialAnswer | None:
        """Return its answer, None where it has not given one."""
        return answer_in(_tail(self._out))

    def last_line(self) -> str:
        """Return the last line that it has said."""
        lines = [line.strip() for line in _tail(self._said).splitlines() if line.strip()]
        return lines[-1] if lines else ""


@contextlib.contextmanager
def _started(command: tuple[str, ...], request: TrialRequest) -> Iterator[_Child]:
    """Yield the process that has been asked, in a session of its own; it is gone at the end of the block."""
    with contextlib.ExitStack() as files:  # a pipe would fill up, or break
        asked, out, said = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        asked.write(request.as_json().encode())
        asked.seek(0)
        environment = _environment(os.environ)
        process = subprocess.Popen(
            command, stdin=asked, stdout=out, stderr=said, env=environment, start_new_session=True
        )
        try:
            yield _Child(process, out, said)
        finally:
            _end(process)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a trial's process; by one of them it knows whom to end with."""
    return {**_ENVIRONMENT, **own, LAUNCHER: str(os.getpid())}


class _Watch:
    """Looks at a process until it ends, and ends it where it takes too long or too much.

    Attributes:
        most_bytes: most that it was seen to hold with its workers (PSS); None where that cannot be read.
    """

    def __init__(self, child: _Child, *, has_workers: bool) -> None:
        self._child, self._has_workers = child, has_workers
        self._most_rss = 0
        self.most_bytes: int | None = None

    def until_its_end(
        self, *, limit_seconds: float, host_bytes: int | None, clock: Callable[[], float] = time.monotonic
    ) -> TrialAnswer | None:
        """Return why the process has to be ended; None once it has ended by itself."""
        until = clock() + limit_seconds
        while self._lives():
            self._look()
            if host_bytes is not None and (self.most_bytes or 0) > host_bytes:
                held, room = format_bytes(self.most_bytes or 0), format_bytes(host_bytes)
                detail = f"it held {held} of the machine's, {room} are there"
                return TrialAnswer("out of memory", detail, ran_out="host")
            if clock() > until:
                return TrialAnswer("timed out", f"not done after {format_duration(limit_seconds)}")
        return None

    def _lives(self) -> bool:
        try:
            self._child.process.wait(timeout=_LOOK_EVERY)
        except subprocess.TimeoutExpired:
            return True
        return False

    def _look(self) -> None:
        with contextlib.suppress(psutil.Error, OSError):  # it has just ended, or may not be seen
            main = psutil.Process(self._child.process.pid)
            members = [main, *main.children(recursive=True)] if self._has_workers else [main]
            rss = sum(member.memory_info().rss for member in members)
            if rss > _WORTH_A_LOOK * self._most_rss:
                self._most_rss = rss
                held = sum(member.memory_full_info().pss for member in members)
                self.most_bytes = max(held, self.most_bytes or 0)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that come from it; loader workers have groups of their own."""
    if process.poll() is not None:  # its number may be another's by now
        return
    left = _descendants(process.pid)
    _signal_group(process, signal.SIGTERM)
    try:
        process.wait(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        left += _descendants(process.pid)
    _signal_group(process, signal.SIGKILL)
    for other in left:
        with contextlib.suppress(psutil.Error):
            other.kill()
    process.wait()
    psutil.wait_procs(left, timeout=_GRACE)  # the next trial finds their memory free


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _without_answer(child: _Child, *, kills_before: Mapping[str, int]) -> TrialAnswer:
    """Return how a process has ended that has said nothing of its steps."""
    code = child.process.returncode
    if code < 0:
        detail = f"by {_signal_name(-code)}"
        if code == -signal.SIGKILL and _has_killed(kills_before, _kills(oom_counts())):
            return TrialAnswer("killed", f"{detail}, by the kernel: out of memory", ran_out="host")
        return TrialAnswer("killed", detail)
    return TrialAnswer("failed", child.last_line() or f"ended with exit code {code} and said nothing")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _kills(counts: list[OomCount]) -> dict[str, int]:
    return {str(count.source): count.kills for count in counts}


def _has_killed(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    """Return whether the kernel has killed for want of memory since."""
    return any(kills > before.get(source, kills) for source, kills in now.items())


def _tail(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
    return file.read().decode("utf-8", "replace")
