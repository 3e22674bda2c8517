"""``--gpus N``: the processes of one machine, started and watched by PyTorch's own engine, without a port."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes
from torch.distributed.elastic.multiprocessing.api import PContext, SubprocessContext

from deblurkit import last_words
from deblurkit.data.workers import available_cpus
from deblurkit.errors import DeblurkitError
from deblurkit.training.distributed import STORE
from deblurkit.training.interrupt import LAUNCHER, give_back_signals, heeded_signals
from deblurkit.units import plural

PROGRAM = ("-m", "deblurkit")
_LOOK_EVERY = 0.1  # seconds
_ENDED_BY_US = 128 + signal.SIGTERM
_GRACE = 3.0  # seconds that ranks have to end by themselves after one that has only lost another


class RankFailed(DeblurkitError):
    """A process has ended the run; with its reason and its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)


def launch(arguments: Sequence[str], *, processes: int, on_gpus: bool = True) -> None:
    """Run ``deblurkit`` with ``arguments`` in as many processes, and return when all have done their part.

    They meet by a file, and on a loopback interface: nothing listens on a network. The first to fail ends
    all; the signals that stop a run go to each of them.

    Raises:
        DeblurkitError: if there are fewer GPUs.
        RankFailed: with what the process that failed had to say.
    """
    there = torch.cuda.device_count() if on_gpus else 0
    if there and processes > there:
        raise DeblurkitError(f"--gpus {processes}: PyTorch finds {there} on this machine; see `nvidia-smi`")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    signals = heeded_signals()  # the engine takes over all, even what nohup has ignored
    with tempfile.TemporaryDirectory(prefix="deblurkit-ranks-") as folder, _kept_handlers():
        ranks = range(processes)
        context = start_processes(
            name="deblurkit",
            entrypoint=sys.executable,
            args={rank: (*PROGRAM, *arguments) for rank in ranks},
            envs={rank: _environment(rank, processes, Path(folder)) for rank in ranks},
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        _forward(signals, context)
        ended = _wait(context, Path(folder))
        if any(ended.values()):
            raise _reason(ended, processes, Path(folder))


def _environment(rank: int, processes: int, folder: Path) -> dict[str, str]:
    own = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        STORE: str(folder / "store"),
        LAUNCHER: str(os.getpid()),
        last_words.PATH: str(_words_of(rank, folder)),
    }
    usual = {
        "OMP_NUM_THREADS": str(max(1, available_cpus() // processes)),
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
    }
    return own | {name: value for name, value in usual.items() if name not in os.environ}


def _words_of(rank: int, folder: Path) -> Path:
    return folder / f"last_words_{rank}.json"


@contextmanager
def _kept_handlers() -> Iterator[None]:
    """Put back, at the end of the block, the handlers of all signals that the engine or `_forward` take."""
    taken = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in taken}
    try:
        yield
    finally:
        give_back_signals(before)


def _forward(signals: Sequence[signal.Signals], context: PContext) -> None:
    """Hand signals on to the processes, which have sessions of their own; they decide when they end."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        for pid in context.pids().values():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    if signal.SIGHUP not in signals:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in signals:
        signal.signal(number, hand_on)


def _wait(context: PContext, folder: Path) -> dict[int, int]:
    """Return the exit codes of the processes that have ended by themselves, once all have or one has failed.

    The others are ended then. Where one only says that it has lost another, that one has a moment to end.
    """
    until = None
    try:
        while True:
            ended = _ended(context)
            words = {rank: last_words.read(_words_of(rank, folder)) for rank, code in ended.items() if code}
            if len(ended) == len(context.pids()):
                return ended
            if any(said is None or not said.is_lost_peer for said in words.values()):
                return ended
            if words and until is None:
                until = time.monotonic() + _GRACE
            if until is not None and time.monotonic() > until:
                return ended
            time.sleep(_LOOK_EVERY)
    finally:
        context.close()  # of those that are left: SIGTERM, and SIGKILL half a minute later


def _ended(context: PContext) -> dict[int, int]:
    """Return the exit codes of the processes that have ended, negative for those that a signal has killed."""
    assert isinstance(context, SubprocessContext)
    codes = {rank: started.proc.poll() for rank, started in context.subprocess_handlers.items()}
    return {rank: code for rank, code in codes.items() if code is not None}


def _reason(ended: Mapping[int, int], processes: int, folder: Path) -> RankFailed:
    """Return why the run has ended: the words of a process that was not just left alone by another.

    Args:
        ended: exit codes of those that have ended by themselves; the others were ended by `_wait`, and what
            they say of that is no reason.
        processes: that were started.
        folder: where they leave their words.
    """
    spoken = {rank: last_words.read(_words_of(rank, folder)) for rank in range(processes)}
    own = {
        rank: words
        for rank, words in spoken.items()
        if words is not None and not words.is_lost_peer and (rank in ended or words.exit_code != _ENDED_BY_US)
    }
    for rank, words in own.items():
        said_by_all = len(own) > 1 and len({other.message for other in own.values()}) == 1
        return RankFailed(words.message if said_by_all else f"rank {rank}: {words.message}", words.exit_code)
    for rank, code in ended.items():
        if code and spoken[rank] is None:
            return _of_silent(rank, code)
    rank, words = next((rank, words) for rank, words in spoken.items() if words is not None and rank in ended)
    hung = processes - len(ended)
    rest = f"; {plural(hung, 'rank')} of {processes} did not end with it and had to be ended" if hung else ""
    return RankFailed(words.message + rest, words.exit_code)


def _of_silent(rank: int, code: int) -> RankFailed:
    if code > 0:
        return RankFailed(f"rank {rank} ended with exit code {code}; its last lines are above", code)
    name = signal.Signals(-code).name
    hint = "; the kernel does so where memory is short (see `dmesg`)" if name == "SIGKILL" else ""
    return RankFailed(f"rank {rank} was killed by {name}{hint}; --resume auto goes on", 1)
