"""Loaders over clips: an endless stream of training batches with a known position, a pass of evaluation."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from deblurkit.data.clips import ClipKey, EvaluationClips, TrainingClips
from deblurkit.data.raw import Clip, RawClip, stack_raw
from deblurkit.errors import DataError

# Held by a thread while it works on batches, and by a loader while it forks its workers: a fork in the middle
# of that work would copy locks that nobody in the child ever gives back.
FORKING = threading.Lock()


class LoadedBatch(NamedTuple):
    """A batch of clips, and what it took.

    Attributes:
        clips: with a leading B.
        load_seconds: time that was spent on reading its samples, by whichever process has read them.
    """

    clips: Clip | RawClip
    load_seconds: float


class BatchStream(Sampler[list[ClipKey]]):
    """The batches of a whole run in one stream: batch n is the same whoever asks and wherever it is resumed.

    Each epoch is a permutation drawn from (seed, epoch); the epochs follow one another without a break, so
    that the loader is never restarted.

    Args:
        num_clips: clips in an epoch.
        batch_size: clips of a batch, on each rank.
        seed: of the run.
        first_batch: batches that are done already.
        num_batches: batches to give from there.
        drop_last: leave out the clips of an epoch that do not fill a batch; else its last batch is smaller.
        rank: this process's number among ``world_size``; ranks take turns in one global order.
        world_size: number of processes that train together.
        groups: a number for each clip; clips of one number follow one another, in an order drawn for each
            epoch, so that a cache meets the frames of one sequence again while it has them.

    Raises:
        DataError: if an epoch does not hold one batch.
    """

    def __init__(
        self,
        num_clips: int,
        *,
        batch_size: int,
        seed: int,
        first_batch: int,
        num_batches: int,
        drop_last: bool = True,
        rank: int = 0,
        world_size: int = 1,
        groups: NDArray[np.integer[Any]] | None = None,
    ) -> None:
        self._num_clips = num_clips
        self._groups = groups
        self._global_batch = batch_size * world_size
        self._seed = seed
        self._batches = range(first_batch, first_batch + num_batches)
        self._ranks = slice(rank, None, world_size)
        self._world_size = world_size
        self.batches_per_epoch = batches_per_epoch(
            num_clips, batch_size=batch_size, world_size=world_size, drop_last=drop_last
        )

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[ClipKey]]:
        drawn, order = -1, np.empty(0, dtype=np.int64)
        for batch in self._batches:
            epoch, position = divmod(batch, self.batches_per_epoch)
            if epoch != drawn:
                order, drawn = self._order(epoch), epoch
            first = position * self._global_batch
            together = order[first : first + self._global_batch]
            short = -len(together) % self._world_size  # every rank has as many: some clips come once more
            indices = np.concatenate([together, np.resize(order, short)])[self._ranks]
            yield [ClipKey(epoch, int(index)) for index in indices]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(self._num_clips)
        if self._groups is None:
            return order
        turn = rng.permutation(int(self._groups.max()) + 1)
        return order[np.argsort(turn[self._groups[order]], kind="stable")]


def batches_per_epoch(num_clips: int, *, batch_size: int, world_size: int, drop_last: bool) -> int:
    """Return the batches that each rank takes in an epoch.

    Raises:
        DataError: if there is not one.
    """
    together = batch_size * world_size
    batches = num_clips // together if drop_last else -(-num_clips // together)
    if batches == 0:
        raise DataError(
            f"TRAIN.BATCH_SIZE: the training split holds {num_clips} clips, fewer than a batch of {together};"
            " set a smaller TRAIN.BATCH_SIZE, DATALOADER.DROP_LAST=false, or prepare more data"
        )
    return batches


def training_loader(
    clips: TrainingClips, batches: BatchStream, *, num_workers: int, prefetch_factor: int, pin_memory: bool
) -> DataLoader[LoadedBatch]:
    """Return the loader of a run's training batches."""
    return _loader(clips, batches, num_workers, prefetch_factor, pin_memory)


def evaluation_batches(clips: EvaluationClips, *, batch_size: int) -> list[list[int]]:
    """Return the parts of ``clips`` in batches of one sequence and one length each, in order."""
    batches: list[list[int]] = []
    kinds: list[tuple[int, int]] = []
    for index, part in enumerate(clips.parts):
        kind = (part.sequence, part.stop - part.start)
        if kinds and kinds[-1] == kind and len(batches[-1]) < batch_size:
            batches[-1].append(index)
        else:
            batches.append([index])
            kinds.append(kind)
    return batches


def evaluation_loader(
    clips: EvaluationClips,
    batches: list[list[int]],
    *,
    num_workers: int,
    prefetch_factor: int,
    pin_memory: bool,
) -> DataLoader[LoadedBatch]:
    """Return a loader of whole-frame clips in the order of ``batches``."""
    return _loader(clips, batches, num_workers, prefetch_factor, pin_memory)


def clear_errors(batches: Iterable[LoadedBatch]) -> Iterator[LoadedBatch]:
    """Yield the batches of a loader; what goes wrong in a worker comes out as the one line that it is.

    Raises:
        DataError: where a file is missing or damaged, or a worker was killed.
    """
    try:
        yield from batches
    except DataError as error:  # from a worker, PyTorch wraps the message in the worker's traceback
        raise DataError(str(error).rsplit("DataError: ", 1)[-1].strip()) from error
    except RuntimeError as error:
        text = str(error)
        if "shared memory" in text or "No space left" in text or "no space in shm" in text:
            raise DataError(
                "the workers' batches do not fit into /dev/shm; enlarge it (docker: --shm-size=8g) or lower"
                " DATALOADER.TRAIN_WORKERS, DATALOADER.TRAIN_PREFETCH_FACTOR or DATA.CACHE_SIZE_GB"
            ) from error
        with told_of_killed_workers():
            raise


@contextlib.contextmanager
def told_of_killed_workers() -> Iterator[None]:
    """Have the block raise one line where a worker was killed.

    PyTorch says so from a signal handler, in whatever the main thread is doing then.

    Raises:
        DataError: instead of PyTorch's RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise DataError(
            f"a loader worker was killed ({str(error).splitlines()[0]}); where memory is short, lower"
            " DATALOADER.TOTAL_WORKERS or DATALOADER.TRAIN_PREFETCH_FACTOR"
        ) from error


class _Loader(DataLoader[LoadedBatch]):
    """A loader that forks its workers while no thread of ours is in the middle of its work."""

    def __iter__(self) -> Any:  # torch's own type is of a private class
        if not self.num_workers:
            return super().__iter__()
        with FORKING, _sigterm_blocked():
            return super().__iter__()


@contextlib.contextmanager
def _sigterm_blocked() -> Iterator[None]:
    """Have what is forked in the block begin with SIGTERM blocked, and so every thread that it makes.

    PyTorch makes one before it calls `_start_worker`; a SIGTERM that it took would end the worker.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Timed(Dataset[tuple[Clip | RawClip, float]]):
    """The samples of a dataset, each with the seconds that it took."""

    def __init__(self, clips: Dataset[Clip | RawClip]) -> None:
        self._clips = clips

    def __getitem__(self, key: Any) -> tuple[Clip | RawClip, float]:
        start = time.perf_counter()
        clip = self._clips[key]
        return clip, time.perf_counter() - start


def _collate(samples: Sequence[tuple[Clip | RawClip, float]]) -> LoadedBatch:
    start = time.perf_counter()
    clips = [clip for clip, _ in samples]
    raw = [clip for clip in clips if isinstance(clip, RawClip)]
    together = stack_raw(raw) if raw else default_collate(clips)
    stacking = time.perf_counter() - start
    return LoadedBatch(together, stacking + sum(seconds for _, seconds in samples))


def _loader(
    clips: Dataset[Clip | RawClip],
    batches: Iterable[list[Any]],
    num_workers: int,
    prefetch_factor: int,
    pin_memory: bool,
) -> DataLoader[LoadedBatch]:
    timed: Dataset[Any] = _Timed(clips)  # _collate makes a LoadedBatch of its samples
    return _Loader(
        timed,
        collate_fn=_collate,
        batch_sampler=batches,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor if num_workers else None,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # its own: a loader must not draw from the run's random state
    )


def _start_worker(worker: int) -> None:
    """One thread a worker, and stop signals left to the training process, which ends its workers itself.

    Ctrl-C and `timeout` signal the whole process group, Slurm every process of a job: a worker that died of
    it would take the run along before it has saved. So each has a group of its own and does not heed SIGINT,
    SIGUSR1, SIGHUP, or a SIGTERM of others; that of its parent ends it, which is how Python ends the workers
    that are left at exit. SIGTERM is blocked here (`_sigterm_blocked`): who waits for it sees its sender.
    """
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_heed_parent, daemon=True).start()


def _heed_parent() -> None:
    """End the process at a SIGTERM of its parent."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
