"""The parts of a run, each made from its section of the configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from deblurkit.cache.limits import Limit, node_limits
from deblurkit.cache.node_cache import NodeCache
from deblurkit.config.schema import Config
from deblurkit.config.sections.data import DataSection
from deblurkit.config.sections.train import TrainSection
from deblurkit.data.batch_bytes import (
    IN_TRAINING,
    IN_VALIDATION,
    batches_alive,
    ready_bytes,
    voxels_on_worker,
)
from deblurkit.data.clips import TrainingClips
from deblurkit.data.loaders import (
    BatchStream,
    batches_per_epoch,
    clear_errors,
    training_loader,
)
from deblurkit.data.packed import decoded_bytes
from deblurkit.data.prefetch import LoadTimes, device_batches
from deblurkit.data.raw import Clip
from deblurkit.data.sensor_noise import SensorNoise
from deblurkit.data.synthetic import make_synthetic
from deblurkit.data.unified import UnifiedDataset, open_dataset
from deblurkit.data.voxel_store import CountedReader
from deblurkit.data.workers import WorkerPlan, available_cpus, plan_workers
from deblurkit.errors import DataError, DeblurkitError
from deblurkit.models.pretrained import load_pretrained
from deblurkit.models.registry import build_model
from deblurkit.training.allocator import keep_freed_memory
from deblurkit.training.checkpoint import start_random_states
from deblurkit.training.distributed import ALONE, Ranks
from deblurkit.training.held_out import HeldOut, evaluation_clips, precomputed, sequences_of
from deblurkit.training.optim import Schedule, build_optimizer, build_schedule
from deblurkit.training.precision import Precision
from deblurkit.training.sharding import held_values, shard
from deblurkit.units import format_bytes


@dataclass(frozen=True)
class RunParts:
    """All that a run is made of."""

    config: Config
    device: torch.device
    workers: WorkerPlan
    clips: TrainingClips
    held_out: HeldOut
    model: nn.Module
    precision: Precision
    optimizer: Optimizer
    batches_per_epoch: int
    total_steps: int
    cache: NodeCache | None
    ranks: Ranks = ALONE

    def close(self) -> None:
        """Leave the cache; the last process of the node to do so takes it away."""
        if self.cache is not None:
            self.cache.close()

    @property
    def accumulation(self) -> int:
        """Micro-steps of an optimiser step."""
        return self.config.train.gradient_accumulation_steps

    @property
    def effective_batch(self) -> int:
        """Samples of an optimiser step, of all ranks together."""
        return self.config.train.batch_size * self.accumulation * self.ranks.world_size

    def ends_epochs(self, step: int, *, every: int) -> bool:
        """Return whether ``step`` completes another ``every`` passes over the data (0: never)."""
        batches = self.batches_per_epoch * every
        return every > 0 and step * self.accumulation // batches > (step - 1) * self.accumulation // batches

    def clip_size_at(self, step: int) -> tuple[int, int]:
        """Return the frames and the side [px] of the clips that ``step`` ends with."""
        epoch = (step * self.accumulation - 1) // self.batches_per_epoch
        return self.clips.length_at(epoch), self.clips.crop_at(epoch)

    @property
    def schedule(self) -> Schedule:
        """The learning rate of every step."""
        return build_schedule(
            self.config.train.sched,
            self.config.train.optim,
            total_steps=self.total_steps,
            effective_batch=self.effective_batch,
        )

    def batches(self, *, done_steps: int, times: LoadTimes | None = None) -> Iterator[Clip]:
        """Start the loader where ``done_steps`` optimiser steps have left off, up to the last step.

        ``times`` is told what the loading takes.
        """
        stream = BatchStream(
            len(self.clips),
            batch_size=self.config.train.batch_size,
            seed=self.config.seed,
            first_batch=done_steps * self.accumulation,
            num_batches=(self.total_steps - done_steps) * self.accumulation,
            drop_last=self.config.dataloader.drop_last,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            groups=self.clips.sequence_of if self.config.dataloader.group_by_sequence else None,
        )
        loader = training_loader(
            self.clips,
            stream,
            num_workers=self.workers.train,
            prefetch_factor=self.config.dataloader.train_prefetch_factor,
            pin_memory=self.config.dataloader.pin_memory and self.device.type == "cuda",
        )
        bins = self.config.data.num_voxel_bins
        return device_batches(
            clear_errors(loader),
            device=self.device,
            num_voxel_bins=bins,
            in_background=self.workers.train > 0 or self.device.type == "cuda",
            times=times,
        )


def assemble(
    config: Config,
    *,
    message: Callable[[str], None],
    warn: Callable[[str], None],
    from_pretrained: bool = True,
    ranks: Ranks = ALONE,
) -> RunParts:
    """Return the parts of a new run: data opened (or drawn), network initialised from SEED, optimiser fresh.

    The network starts from MODEL.PRETRAINED if that is given; not so where ``from_pretrained`` is false, as a
    checkpoint takes its place. Every rank has the same weights, and random numbers of its own.

    Raises:
        DeblurkitError: where a part cannot be made as the configuration says.
    """
    device = pick_device(config.train.device, local_rank=ranks.local_rank)
    if device.type == "cpu":
        keep_freed_memory()
    with ranks.main_first():
        dataset = open_training_data(config.data, seed=config.seed, message=message)
    workers = plan_workers(config.dataloader, gpus=ranks.local_world_size, cpus=available_cpus())
    cache = _joined_cache(config, dataset, workers, message)
    counted = precomputed(config.data)
    on_worker = voxels_on_worker(config.data, device.type)
    clips = training_clips(config, dataset, cache=cache, counted=counted, on_worker=on_worker)
    held_out = HeldOut(
        evaluation_clips(
            dataset, config, split=config.data.val_split, counted=counted, on_worker=on_worker, cache=cache
        ),
        batch_size=config.train.val_batch_size,
        num_workers=workers.val,
        prefetch_factor=config.dataloader.val_prefetch_factor,
        test=config.test,
    )
    model = _network(config, device, ranks, message=message, from_pretrained=from_pretrained)
    batches = batches_per_epoch(
        len(clips),
        batch_size=config.train.batch_size,
        world_size=ranks.world_size,
        drop_last=config.dataloader.drop_last,
    )
    return RunParts(
        config=config,
        device=device,
        workers=workers,
        clips=clips,
        held_out=held_out,
        model=model,
        precision=Precision.from_section(config.train, device),
        optimizer=build_optimizer(config.train.optim, model, device=device, warn=warn),
        batches_per_epoch=batches,
        total_steps=_total_steps(config.train, batches_per_epoch=batches),
        cache=cache,
        ranks=ranks,
    )


def pick_device(setting: str, *, local_rank: int = 0) -> torch.device:
    """Return the device that TRAIN.DEVICE names; ``auto`` is a GPU where there is one: each rank's own.

    Raises:
        DeblurkitError: if a GPU is asked for and none can be used.
    """
    if setting == "cuda" and not torch.cuda.is_available():
        raise DeblurkitError(
            "TRAIN.DEVICE: cuda was asked for and PyTorch finds no usable GPU; see `nvidia-smi`, or set"
            " --set TRAIN.DEVICE=cpu"
        )
    if setting == "cuda" or (setting == "auto" and torch.cuda.is_available()):
        return torch.device("cuda", local_rank)
    return torch.device("cpu")


def open_training_data(section: DataSection, *, seed: int, message: Callable[[str], None]) -> UnifiedDataset:
    """Return the dataset at DATA.ROOT, drawing the synthetic one there if AUTO_SYNTHETIC asks for it."""
    if section.auto_synthetic and not section.root.exists():
        message(f"drawing the synthetic dataset in {section.root}")
        make_synthetic(section.root, seed=seed)
    return open_dataset(section.root)


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def training_clips(
    config: Config,
    dataset: UnifiedDataset,
    *,
    cache: NodeCache | None,
    counted: CountedReader | None,
    on_worker: bool,
) -> TrainingClips:
    """Return the training clips of a dataset as the configuration has them cut, changed and read.

    Args:
        config: the whole configuration.
        dataset: to be read.
        cache: keeps decoded frames, where given.
        counted: reads voxels that were made before, where given.
        on_worker: have clips made ready for a step where they are read.
    """
    data = config.data
    (_, crop), *later_crops = data.crops_by_epoch
    (_, length), *later_lengths = data.clips_by_epoch
    return TrainingClips(
        sequences_of(dataset, data.train_split, cache=cache),
        clip_length=length,
        crop_size=crop,
        num_voxel_bins=data.num_voxel_bins,
        seed=config.seed,
        later_crops=later_crops,
        later_lengths=later_lengths,
        noise=_noise(data),
        voxels_on_worker=on_worker,
        counted=counted,
    )


def _network(
    config: Config,
    device: torch.device,
    ranks: Ranks,
    *,
    message: Callable[[str], None],
    from_pretrained: bool,
) -> nn.Module:
    """Return the network with the weights of SEED, or of MODEL.PRETRAINED; random states go on by rank."""
    start_random_states(config.seed)
    model = build_model(config.model, num_voxel_bins=config.data.num_voxel_bins)
    if config.model.pretrained is not None and from_pretrained:
        message(load_pretrained(model, config.model.pretrained).as_line())
    if config.train.parallel == "fsdp":
        _share_out(model, device=device, ranks=ranks, message=message)
    if not ranks.is_main:
        start_random_states(config.seed, rank=ranks.rank)
    return model.to(device)


def _share_out(
    model: nn.Module, *, device: torch.device, ranks: Ranks, message: Callable[[str], None]
) -> None:
    """Shard a network from the CPU, so that the device holds no more than a block of it at a time."""
    if ranks.world_size == 1:
        message("TRAIN.PARALLEL: fsdp has no one to share with; one process trains and keeps everything")
        return
    shard(model, device=device, ranks=ranks)
    total, own = count_parameters(model), held_values(model)
    message(f"fsdp: {ranks.world_size} ranks share {total} parameters; rank 0 keeps {own}")


def _joined_cache(
    config: Config, dataset: UnifiedDataset, workers: WorkerPlan, message: Callable[[str], None]
) -> NodeCache | None:
    """Return the node's cache of decoded frames, shared by all processes of this run, if it is asked for."""
    if not config.data.use_ram_cache:
        return None
    if dataset.manifest.storage == "packed":
        message("DATA.USE_RAM_CACHE: not needed, as a packed dataset is read from memory that all share")
        return None
    name = f"{dataset.root.resolve()} {config.log.save_dir.resolve()}"
    fillable = decoded_bytes(dataset.manifest)
    frame = math.prod(dataset.manifest.frame_shape) * 3
    if config.data.cache_size_gb * 2**30 < frame:
        raise DataError(
            f"DATA.CACHE_SIZE_GB: expected room for a frame at least ({format_bytes(frame)}),"
            f" got {config.data.cache_size_gb:g} GiB"
        )
    waiting = _waiting_bytes(config, dataset, workers)

    def limits(root: Path) -> list[Limit]:
        return [replace(limit, free_bytes=max(0, limit.free_bytes - waiting)) for limit in node_limits(root)]

    budget = min(int(config.data.cache_size_gb * 2**30), fillable)
    return NodeCache.join(name, max_bytes=budget, limits=limits)


def _waiting_bytes(config: Config, dataset: UnifiedDataset, workers: WorkerPlan) -> int:
    """Return about what the batches that workers keep ready take of /dev/shm."""
    manifest, data = dataset.manifest, config.data
    shapes = manifest.frame_shape, manifest.spike_shape
    clip = ready_bytes(data.clip_len, *shapes, num_voxel_bins=data.num_voxel_bins).total
    share = data.crop_size**2 / math.prod(manifest.frame_shape)
    loader, train = config.dataloader, config.train
    ahead = batches_alive(workers.train, loader.train_prefetch_factor, taken=IN_TRAINING)
    restoring = batches_alive(workers.val, loader.val_prefetch_factor, taken=IN_VALIDATION)
    held = ahead * train.batch_size * share + restoring * train.val_batch_size
    return int(workers.gpus * held * clip)


def _noise(section: DataSection) -> SensorNoise | None:
    """Return how training changes the spikes, None where it does not."""
    noise = SensorNoise(**section.sensor_noise.model_dump())
    return None if noise.is_none() else noise


def _total_steps(section: TrainSection, *, batches_per_epoch: int) -> int:
    """Return the optimiser steps that EPOCHS passes over the data make, at most MAX_STEPS."""
    whole = max(1, section.epochs * batches_per_epoch // section.gradient_accumulation_steps)
    return min(whole, section.max_steps or whole)
