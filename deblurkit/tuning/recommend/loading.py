"""What loading takes of a core, measured by reading clips as a worker of the run would."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import torch
from torch.utils.data import DataLoader

from deblurkit.cache.node_cache import NodeCache
from deblurkit.config.schema import Config
from deblurkit.data.batch_bytes import largest_clip, voxels_on_worker
from deblurkit.data.clips import TrainingClips
from deblurkit.data.loaders import BatchStream, LoadedBatch, clear_errors, training_loader
from deblurkit.data.manifest import Storage
from deblurkit.data.packed import decoded_bytes, packed_bytes
from deblurkit.data.prefetch import LoadTimes
from deblurkit.data.unified import UnifiedDataset, open_dataset
from deblurkit.errors import DataError
from deblurkit.training.held_out import precomputed
from deblurkit.training.parts import open_training_data, training_clips
from deblurkit.tuning.step_memory import DeviceKind
from deblurkit.units import MIB

_TRIAL_CACHE = 256 * MIB  # most that the cache of a measurement takes of shared memory
_TRIAL_CLIPS = 16  # and most clips that are in it
_FEWEST, _MOST = 3, 2000  # clips that are timed, however long or short they take


@dataclass(frozen=True)
class Loading:
    """What loading takes.

    Attributes:
        seconds: of one core for a clip, as the dataset lies on the disk.
        cached_seconds: likewise where its frames are in the node's cache; None where no cache was filled.
        clips: that were timed.
        num_clips: of an epoch.
        storage: of the dataset.
        decoded_bytes: that all of its frames take in a cache.
        packed_bytes: that it takes on a disk when it is packed.
    """

    seconds: float
    cached_seconds: float | None
    clips: int
    num_clips: int
    storage: Storage
    decoded_bytes: int
    packed_bytes: int


def measure_loading(
    config: Config,
    *,
    seconds: float = 2.0,
    device_kind: DeviceKind = "cpu",
    message: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.monotonic,
) -> Loading | None:
    """Return what a core needs for a training clip, read by the run's own loader in this process.

    Where frames are PNGs, some are then read out of a small cache of their own, which is removed again.

    Args:
        config: the whole configuration.
        seconds: that each of the two measurements takes, about.
        device_kind: that steps are taken on; a GPU makes its voxels itself.
        message: told where the synthetic dataset is drawn first.
        clock: seconds.

    Returns:
        None where nothing is at DATA.ROOT, and AUTO_SYNTHETIC does not ask for something.

    Raises:
        DataError: if the dataset cannot be read, or no clip can be cut from it.
    """
    if not config.data.root.exists() and not config.data.auto_synthetic:
        return None
    dataset = open_training_data(config.data, seed=config.seed, message=message)
    reading = _Reading(config, dataset, device_kind, seconds=seconds, clock=clock)
    with _as_a_worker():
        clips = reading.clips(None)
        times = reading.times(clips, among=len(clips), first=0)
        return Loading(
            seconds=times.seconds / times.samples,
            cached_seconds=reading.cached_seconds(clips),
            clips=times.samples,
            num_clips=len(clips),
            storage=dataset.manifest.storage,
            decoded_bytes=decoded_bytes(dataset.manifest),
            packed_bytes=packed_bytes(dataset.manifest),
        )


def count_clips(config: Config, *, device_kind: DeviceKind = "cpu") -> int | None:
    """Return the training clips of an epoch, none of them read; None where nothing is at DATA.ROOT.

    Raises:
        DataError: if the dataset cannot be read, or no clip can be cut from it.
    """
    if not config.data.root.exists():
        return None
    dataset = open_dataset(config.data.root)
    reading = _Reading(config, dataset, device_kind, seconds=0.0, clock=time.monotonic)
    return len(reading.clips(None))


class _Reading:
    """Reads training clips of a dataset for a while."""

    def __init__(
        self,
        config: Config,
        dataset: UnifiedDataset,
        device_kind: DeviceKind,
        *,
        seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._config, self._dataset, self._device_kind = config, dataset, device_kind
        self._seconds, self._clock = seconds, clock

    def clips(self, cache: NodeCache | None) -> TrainingClips:
        """Return the run's clips, read by way of ``cache`` if given."""
        data = self._config.data
        return training_clips(
            self._config,
            self._dataset,
            cache=cache,
            counted=precomputed(data),
            on_worker=voxels_on_worker(data, self._device_kind),
        )

    def times(self, clips: TrainingClips, *, among: int, first: int) -> LoadTimes:
        """Return what clips took that were read one by one; the first of them is not counted.

        Args:
            clips: that are read.
            among: how many of them are, from the first.
            first: number in the stream to begin at; it gives each of ``among`` before one comes again.
        """
        times, until = LoadTimes(), self._clock() + self._seconds
        batches = clear_errors(_loader(clips, among, first=first, count=_MOST))
        next(batches)  # opens files and fills tables that are there from then on
        for batch in batches:
            times.add(batch)
            if times.samples >= _FEWEST and self._clock() > until:
                break
        return times

    def cached_seconds(self, clips: TrainingClips) -> float | None:
        """Return the seconds of a clip whose frames are in the cache; None where that is not to be known."""
        among, room = self._cached_clips(clips)
        if self._dataset.manifest.storage == "packed" or among < 1:
            return None
        try:
            cache = NodeCache.join(f"measurement of process {os.getpid()}", max_bytes=room)
        except DataError:  # shared memory has no room for it
            return None
        with contextlib.closing(cache):
            cached = self.clips(cache)
            for _ in clear_errors(_loader(cached, among, first=0, count=among)):
                pass
            times = self.times(cached, among=among, first=among)
        return times.seconds / times.samples

    def _cached_clips(self, clips: TrainingClips) -> tuple[int, int]:
        """Return how many of the first clips are to be in the cache, and the bytes of their frames."""
        length, _ = largest_clip(self._config.data)
        frames = 2 * sum(len(record.stems) for record in self._dataset.manifest.sequences)
        each = 2 * decoded_bytes(self._dataset.manifest) // frames  # of a blurry frame and its sharp one
        there = clips.sequences[0].num_frames - length + 1
        among = min(_TRIAL_CLIPS, there, _TRIAL_CACHE // each - length + 1)
        return among, each * (among + length - 1)


def _loader(clips: TrainingClips, among: int, *, first: int, count: int) -> DataLoader[LoadedBatch]:
    stream = BatchStream(among, batch_size=1, seed=clips.seed, first_batch=first, num_batches=count)
    return training_loader(clips, stream, num_workers=0, prefetch_factor=1, pin_memory=False)


@contextlib.contextmanager
def _as_a_worker() -> Iterator[None]:
    """Have one thread do everything inside the block, as in a loader's worker."""
    threads, of_cv2 = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(of_cv2)
