"""What the loaders of a run hold of the host: their workers, and the batches on their way to a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deblurkit.config.schema import Config
from deblurkit.data.batch_bytes import (
    IN_TRAINING,
    IN_VALIDATION,
    ClipBytes,
    batches_alive,
    largest_clip,
    raw_bytes,
    ready_bytes,
    voxels_on_worker,
)
from deblurkit.data.workers import WorkerPlan
from deblurkit.tuning.host_rows import MEASURED, SPIKE_FRAMES, HostData, HostRow
from deblurkit.units import MIB

_WORKER = 20 * MIB  # pages that a forked worker or its parent writes on


@dataclass(frozen=True)
class Loading:
    """A loader of each rank, and the batches that it gives.

    Attributes:
        name: what the batches are for.
        on_cpu: whether the step takes them there; else they are copied to a GPU.
        workers: of each rank.
        prefetch_factor: batches that each worker keeps ready.
        taken: batches that the main process holds.
        pins: whether they are copied into pinned memory.
        batch: as a worker gives it.
        scratch: bytes that a worker needs beside a batch to make it.
    """

    name: str
    on_cpu: bool
    workers: int
    prefetch_factor: int
    taken: int
    pins: bool
    batch: ClipBytes
    scratch: int


def training_loading(config: Config, plan: WorkerPlan, data: HostData, *, device_kind: str) -> Loading:
    """Return the loader of the training batches, with the largest of its schedules."""
    on_cpu = device_kind == "cpu"
    frames, side = largest_clip(config.data)
    return Loading(
        name="training",
        on_cpu=on_cpu,
        workers=plan.train,
        prefetch_factor=config.dataloader.train_prefetch_factor,
        taken=IN_TRAINING if on_cpu else 1,  # on a GPU they are let go of when they have been copied
        pins=config.dataloader.pin_memory and not on_cpu,
        batch=_clip(config, frames, (side, side), device_kind).times(config.train.batch_size),
        scratch=_scratch(config, data, (side, side), device_kind),
    )


def validation_loading(
    config: Config, plan: WorkerPlan, data: HostData, *, device_kind: str
) -> Loading | None:
    """Return the loader of the held-out batches; None where the size of frames is not known."""
    on_cpu, shape, tile = device_kind == "cpu", data.frame_shape, config.test.tile
    if shape is None:
        return None
    frames = tile[0] if tile is not None and len(tile) == 3 else config.data.clip_len
    return Loading(
        name="validation",
        on_cpu=on_cpu,
        workers=plan.val,
        prefetch_factor=config.dataloader.val_prefetch_factor,
        taken=IN_VALIDATION,
        pins=not on_cpu,
        batch=_clip(config, frames, shape, device_kind).times(config.train.val_batch_size),
        scratch=_scratch(config, data, shape, device_kind),
    )


def loader_rows(loading: Loading, *, ranks: int) -> Iterator[HostRow]:
    """Yield what the loaders of all ranks hold."""
    name, workers = loading.name, loading.workers
    yield HostRow(f"{name} workers", _WORKER, workers * ranks, "private", MEASURED)
    if workers or not loading.on_cpu:  # without workers on a CPU it has room in what the step has freed
        making = loading.batch.total + loading.scratch
        source = "a batch before it is handed over, and the frame at hand"
        yield HostRow(f"{name} samples in the making", making, max(1, workers) * ranks, "private", source)
    yield from _batches(loading, ranks)


def _batches(loading: Loading, ranks: int) -> Iterator[HostRow]:
    name, batch, workers = f"{loading.name} batches", loading.batch, loading.workers
    sizes = f"{' + '.join(f'{size / MIB:.1f}' for size in batch)} MiB"
    alive = batches_alive(workers, loading.prefetch_factor, taken=loading.taken)
    if loading.pins:
        pinned, count = sum(map(_power_of_two, batch)), max(alive, loading.taken)
        yield HostRow(f"{name}, pinned", pinned, count * ranks, "pinned", f"{sizes}, each to a power of two")
        alive = min(alive, workers + 1)  # what is made goes on to pinned memory at once
    yield HostRow(name, batch.total, alive * ranks, "shared memory", f"{sizes}; made, and not used up yet")


def _clip(config: Config, frames: int, shape: tuple[int, int], device_kind: str) -> ClipBytes:
    """Return a clip as a worker gives it; spikes have half of the frames' size."""
    data, spikes = config.data, (shape[0] // 2, shape[1] // 2)
    ready = ready_bytes(frames, shape, spikes, num_voxel_bins=data.num_voxel_bins)
    if voxels_on_worker(data, device_kind):
        return ready
    if data.use_precomputed_voxels:
        return ready._replace(spikes=ready.spikes // 4)  # a byte each
    return raw_bytes(frames, shape, spikes, spike_frames=SPIKE_FRAMES)


def _scratch(config: Config, data: HostData, shape: tuple[int, int], device_kind: str) -> int:
    """Return what a worker needs for the exposure at hand: a frame as decoded and as RGB, and spikes."""
    decoded = 2 * data.frame_bytes if data.storage == "png" else 0
    if config.data.use_precomputed_voxels or not voxels_on_worker(config.data, device_kind):
        return decoded
    pixels = (shape[0] // 2) * (shape[1] // 2)
    return decoded + (1 + 4) * SPIKE_FRAMES * pixels  # bits unpacked, and the same in float32


def _power_of_two(size: int) -> int:
    """Return what PyTorch's allocator of pinned memory takes for ``size`` bytes."""
    return 1 << (size - 1).bit_length() if size else 0
