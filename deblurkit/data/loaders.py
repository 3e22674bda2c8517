"""Loaders over clips: an endless stream of training batches with a known position, a pass of evaluation."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from deblurkit.data.clips import Clip, ClipKey, EvaluationClips, TrainingClips
from deblurkit.errors import DataError


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
    ) -> None:
        self._num_clips = num_clips
        self._global_batch = batch_size * world_size
        self._seed = seed
        self._batches = range(first_batch, first_batch + num_batches)
        self._ranks = slice(rank, None, world_size)
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
                order = np.random.default_rng((self._seed, epoch)).permutation(self._num_clips)
                drawn = epoch
            first = position * self._global_batch
            indices = order[first : first + self._global_batch][self._ranks]
            yield [ClipKey(epoch, int(index)) for index in indices]


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
) -> DataLoader[Clip]:
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
) -> DataLoader[Clip]:
    """Return a loader of whole-frame clips in the order of ``batches``."""
    return _loader(clips, batches, num_workers, prefetch_factor, pin_memory)


def clear_errors(batches: Iterable[Clip]) -> Iterator[Clip]:
    """Yield the batches of a loader; what goes wrong in a worker comes out as the one line that it is.

    Raises:
        DataError: where a file is missing or damaged, or a worker was killed.
    """
    try:
        yield from batches
    except DataError as error:  # from a worker, PyTorch wraps the message in the worker's traceback
        raise DataError(str(error).rsplit("DataError: ", 1)[-1].strip()) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a loader worker was killed ({str(error).splitlines()[0]}); where memory is short, lower"
            " DATALOADER.TOTAL_WORKERS or DATALOADER.TRAIN_PREFETCH_FACTOR"
        ) from error


def _loader(
    clips: Dataset[Clip],
    batches: Iterable[list[Any]],
    num_workers: int,
    prefetch_factor: int,
    pin_memory: bool,
) -> DataLoader[Clip]:
    return DataLoader(
        clips,
        batch_sampler=batches,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor if num_workers else None,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # its own: a loader must not draw from the run's random state
    )


def _start_worker(worker: int) -> None:
    """One thread a worker, and stop signals left to the training process, which ends its workers itself.

    Ctrl-C and `timeout` signal the whole process group: a worker that died of it would take the run along
    before it has saved, so each has a group of its own. SIGTERM still ends it, which is how Python ends the
    workers that are left at exit.
    """
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
