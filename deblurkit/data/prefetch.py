"""Batches on their way to the device: copied, turned and made into voxels while the step before runs."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from deblurkit.data.loaders import FORKING, LoadedBatch
from deblurkit.data.raw import Clip, RawClip, as_clips

AHEAD = 2  # batches that wait on the device
_FAREWELL = 10.0  # seconds after which a thread that waits for a loader is left to end by itself
_PATIENCE = 0.2  # seconds after which a thread looks whether it is still wanted

Made: TypeAlias = tuple[Clip, Any]  # a clip, and what says when it is there


@dataclass
class LoadTimes:
    """What the loading of a run's samples has cost so far, whoever has done it."""

    seconds: float = 0.0
    samples: int = 0

    def add(self, batch: LoadedBatch) -> None:
        """Count a batch."""
        self.seconds += batch.load_seconds
        self.samples += batch.clips.blurry.shape[0]


class Side(Protocol):
    """A stream beside the one that computes."""

    def begin(self) -> None:
        """Prepare the thread that works on this side."""
        ...

    def run(self, work: Callable[[], Clip]) -> Made:
        """Do ``work`` on the stream; return its result and what says when it is there."""
        ...

    def hand_over(self, made: Made) -> Clip:
        """Return a result, safe to use from here on by the stream that computes."""
        ...


class _SameSide:
    """No stream of its own: a CPU has done the work when it returns."""

    def begin(self) -> None:
        pass

    def run(self, work: Callable[[], Clip]) -> Made:
        return work(), None

    def hand_over(self, made: Made) -> Clip:
        return made[0]


class _CudaSide:
    """A CUDA stream: its copies and kernels run beside those of the step before."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def begin(self) -> None:
        torch.cuda.set_device(self._stream.device)  # each thread has one of its own, at first the first GPU

    def run(self, work: Callable[[], Clip]) -> Made:
        with torch.cuda.stream(self._stream):
            clip = work()
            return clip, self._stream.record_event()

    def hand_over(self, made: Made) -> Clip:
        clip, event = made
        stream = torch.cuda.current_stream(self._stream.device)
        stream.wait_event(event)
        for tensor in clip:
            tensor.record_stream(stream)  # its memory is not given out again before the step has read it
        return clip


def device_batches(
    batches: Iterable[LoadedBatch],
    *,
    device: torch.device,
    num_voxel_bins: int,
    in_background: bool,
    times: LoadTimes | None = None,
) -> Iterator[Clip]:
    """Yield the batches of a loader as a step takes them, in order.

    Args:
        batches: of a loader.
        device: that the step runs on.
        num_voxel_bins: K, for batches whose voxels were not made by the workers.
        in_background: have a thread, on a GPU with a stream of its own, make the next ones meanwhile; off,
            each is made when it is asked for.
        times: told what the loading took.
    """

    def arrive(batch: LoadedBatch) -> Clip:
        if times is not None:
            times.add(batch)
        return on_device(batch.clips, device, num_voxel_bins)

    if not in_background:
        return map(arrive, batches)
    return ahead(batches, arrive, _CudaSide(device) if device.type == "cuda" else _SameSide())


def on_device(clips: Clip | RawClip, device: torch.device, num_voxel_bins: int) -> Clip:
    """Return a batch as a step takes it, on ``device``."""

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    if isinstance(clips, Clip):
        return Clip(*map(moved, clips))
    raw = RawClip(moved(clips.blurry), moved(clips.spikes), moved(clips.sharp), clips.view)
    return as_clips(raw, num_voxel_bins)


def ahead(
    batches: Iterable[LoadedBatch], arrive: Callable[[LoadedBatch], Clip], side: Side
) -> Iterator[Clip]:
    """Yield ``arrive`` of every batch, made by a thread on ``side`` a little before it is asked for.

    What goes wrong in the thread is raised here; closing the generator ends the thread. The first batch is
    made by the caller's thread: a loader forks its workers then, and a fork wants no other thread. Loaders
    that come later (of a validation) fork while this one rests (`loaders.FORKING`).
    """
    source = iter(batches)
    try:
        first = next(source)
    except StopIteration:
        return
    ready: queue.Queue[Made | Exception | None] = queue.Queue(maxsize=AHEAD)
    unwanted = threading.Event()

    def bring(item: Made | Exception | None) -> None:
        while not unwanted.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=_PATIENCE)
                break

    def work() -> None:
        try:
            side.begin()
            while not unwanted.is_set():
                with FORKING:
                    batch = next(source, None)
                    made = None if batch is None else side.run(lambda batch=batch: arrive(batch))  # type: ignore[misc]
                bring(made)
                if made is None:
                    return
        except Exception as error:
            bring(error)

    thread = threading.Thread(target=work, name="deblurkit-prefetch", daemon=True)
    thread.start()
    try:
        yield side.hand_over(side.run(lambda: arrive(first)))
        while (item := ready.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield side.hand_over(item)
    finally:
        unwanted.set()
        with contextlib.suppress(KeyboardInterrupt):  # a collector that closes this could not pass it on
            thread.join(timeout=_FAREWELL)
