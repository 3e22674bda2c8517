"""``--gpus N``: the processes of one machine, started and watched by PyTorch's own engine, without a port."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes
from torch.distributed.elastic.multiprocessing.api import PContext, RunProcsResult

from deblurkit import last_words
from deblurkit.data.workers import available_cpus
from deblurkit.errors import DeblurkitError
from deblurkit.training.distributed import STORE

PROGRAM = ("-m", "deblurkit")
_LOOK_EVERY = 0.1  # seconds
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class RankFailed(DeblurkitError):
    """A process has ended the run; with its reason and its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)


def launch(arguments: Sequence[str], *, processes: int, on_gpus: bool = True) -> None:
    """Run ``deblurkit`` with ``arguments`` in as many processes, and return when all have done their part.

    They meet by a file, and on a loopback interface: nothing listens on a network. The first to fail ends
    all; SIGINT, SIGTERM and SIGUSR1 go to each of them.

    Raises:
        DeblurkitError: if there are fewer GPUs.
        RankFailed: with what the process that failed had to say.
    """
    there = torch.cuda.device_count() if on_gpus else 0
    if there and processes > there:
        raise DeblurkitError(f"--gpus {processes}: PyTorch finds {there} on this machine; see `nvidia-smi`")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="deblurkit-ranks-") as folder:
        ranks = range(processes)
        context = start_processes(
            name="deblurkit",
            entrypoint=sys.executable,
            args={rank: (*PROGRAM, *arguments) for rank in ranks},
            envs={rank: _environment(rank, processes, Path(folder)) for rank in ranks},
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        with _forwarding(context):
            result = _wait(context)
        if result.is_failed():
            raise _reason(result, Path(folder))


def _environment(rank: int, processes: int, folder: Path) -> dict[str, str]:
    own = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        STORE: str(folder / "store"),
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
def _forwarding(context: PContext) -> Iterator[None]:
    """Hand signals on to the processes, which have sessions of their own; they decide when they end."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        for pid in context.pids().values():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    before = {number: signal.signal(number, hand_on) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(context: PContext) -> RunProcsResult:
    try:
        while True:
            result = context.wait(timeout=1, period=_LOOK_EVERY)
            if result is not None:
                return result
    finally:
        context.close(signal.SIGKILL)  # of those that are left there is none, unless this process fails


def _reason(result: RunProcsResult, folder: Path) -> RankFailed:
    """Return why the run has ended: the words of a process that was not just left alone by another."""
    spoken = {rank: last_words.read(_words_of(rank, folder)) for rank in sorted(result.failures)}
    own = {rank: words for rank, words in spoken.items() if words is not None and not words.is_lost_peer}
    for rank, words in own.items():
        said_by_all = len(own) > 1 and len({other.message for other in own.values()}) == 1
        return RankFailed(words.message if said_by_all else f"rank {rank}: {words.message}", words.exit_code)
    codes = {rank: result.failures[rank].exitcode for rank in spoken}
    # The engine ends the others by SIGTERM: where there is any other reason, that is not it.
    rank = min(spoken, key=lambda rank: (spoken[rank] is not None, codes[rank] == -signal.SIGTERM))
    code = codes[rank]
    if code >= 0:
        return RankFailed(f"rank {rank} ended with exit code {code}; its last lines are above", code or 1)
    name = signal.Signals(-code).name
    hint = "; the kernel does so where memory is short (see `dmesg`)" if name == "SIGKILL" else ""
    return RankFailed(f"rank {rank} was killed by {name}{hint}; --resume auto goes on", 1)
