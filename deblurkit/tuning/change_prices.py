"""What a setting that frees memory costs, in a clause with its arithmetic.

Nothing is timed here: a backward pass counts as two forward ones, operations are counted from shapes, and
what was measured elsewhere stands with its figures.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from deblurkit.config.schema import Config, ModelSection
from deblurkit.data.batch_bytes import largest_clip
from deblurkit.data.workers import WorkerPlan, available_cpus, plan_workers
from deblurkit.memory.tensors import PARAMETERS
from deblurkit.models.flops import module_flops
from deblurkit.models.registry import build_model
from deblurkit.training.held_out import overlap_of, tile_of
from deblurkit.training.tiling import plan_tiles
from deblurkit.tuning.host_memory import HostMemory
from deblurkit.tuning.step_memory import EMA, StepMemory
from deblurkit.units import format_bytes, format_count, format_share

Freed: TypeAlias = Literal["device", "ram", "shm"]

_FORWARD = 1 / 3  # of a step's operations
_DECODING_MS = 16  # of a core, for a 720p PNG: benchmarks/data_loading.py
_ADAMW_MS, _EIGHT_BIT_MS = 90, 496  # of a step, 18.3 M weights, 2 cores: benchmarks/optimizer_memory.py
_BRANCH = re.compile(r"stage(\d)\..*\.(attn|mlp)")
_STAGES = 8


@dataclass(frozen=True)
class Situation:
    """A run as it is configured, and what is known of its memory.

    Attributes:
        config: of the run.
        step: what a step holds; None where that is not predicted.
        host: what all processes hold; likewise.
        resource: what is to be freed.
        frame_shape: rows and columns of the held-out frames, where known.
    """

    config: Config
    step: StepMemory | None
    host: HostMemory | None
    resource: Freed
    frame_shape: tuple[int, int] | None = None

    @property
    def device_kind(self) -> str:
        """The device that the step is of; a CPU where there is none."""
        return "cpu" if self.step is None else self.step.device_kind

    @property
    def world_size(self) -> int:
        """Ranks on the machine."""
        return 1 if self.host is None else self.host.world_size

    def workers(self, config: Config) -> WorkerPlan:
        """Return the workers that a configuration has on this machine."""
        return plan_workers(config.dataloader, gpus=self.world_size, cpus=available_cpus())

    def row(self, name: str) -> int:
        """Return the bytes of a row of the step's peak, 0 where it has none."""
        return sum(row.bytes or 0 for row in (self.step.rows if self.step else ()) if row.name == name)


def smaller_parts(now: Situation, after: Config) -> str:
    """Return the price of a micro-batch that is divided."""
    before, train = now.config.train, after.train
    parts = before.batch_size // train.batch_size
    return (
        f"the same clips a step, as {train.batch_size} x {train.gradient_accumulation_steps} instead of"
        f" {before.batch_size} x {before.gradient_accumulation_steps}: {parts} x the kernel launches for as"
        " many operations"
    )


def attention_again(now: Situation, after: Config) -> str:
    """Return the price of recomputed attention."""
    return _recomputed(now, after, "attn", "attention")


def mlps_again(now: Situation, after: Config) -> str:
    """Return the price of recomputed MLPs."""
    return _recomputed(now, after, "mlp", "the MLPs")


def _recomputed(now: Situation, after: Config, branch: str, what: str) -> str:
    assert now.step is not None
    share = recomputed_share(now.config, branch, clip_shape=now.step.clip_shape)
    return (
        f"the same gradients; the backward pass makes {what} again: {format_share(share)} of a forward pass x"
        f" 1/3 of a step = {format_share(share * _FORWARD)} more operations, and somewhat more time"
    )


def recomputed_share(config: Config, branch: str, *, clip_shape: tuple[int, ...]) -> float:
    """Return the share of a forward pass that blocks of VRT would repeat which now keep what they make.

    Args:
        config: with the flags of today.
        branch: ``attn`` or ``mlp``.
        clip_shape: (B, T, 3, H, W).
    """
    vrt = config.model.vrt
    flags = vrt.use_checkpoint_attn if branch == "attn" else vrt.use_checkpoint_ffn
    kept = [not flag for flag in (flags if isinstance(flags, tuple) else (flags,) * _STAGES)]
    found = _forward(config.model, config.data.num_voxel_bins, clip_shape)
    again = 0
    for path, flops in found.items():
        match = _BRANCH.fullmatch(path)
        if match and match[2] == branch and kept[int(match[1]) - 1]:
            again += flops
    return again / found[""]


@functools.lru_cache(maxsize=2)
def _forward(section: ModelSection, bins: int, clip_shape: tuple[int, ...]) -> Mapping[str, int]:
    batch, frames, _, height, width = clip_shape
    spikes = (batch, frames, bins, height // 2, width // 2) if section.use_spike else None
    return module_flops(lambda: build_model(section, num_voxel_bins=bins), clip_shape, spikes_shape=spikes)


def half_precision(now: Situation, after: Config) -> str:
    """Return the price of bfloat16."""
    return (
        "products keep 8 of float32's 24 bits, so gradients are others: compare the accuracy; no slower where"
        " the device multiplies 16 bits"
    )


def smaller_crops(now: Situation, after: Config) -> str:
    """Return the price of crops with shorter sides."""
    (_, before), (_, side) = largest_clip(now.config.data), largest_clip(after.data)
    share = (side / before) ** 2
    return (
        f"other training, with less to see: ({side} / {before})^2 = {share:.2f} x the pixels of a clip, and"
        " about as much of a step's time"
    )


def shorter_clips(now: Situation, after: Config) -> str:
    """Return the price of clips of fewer frames."""
    (before, _), (frames, _) = largest_clip(now.config.data), largest_clip(after.data)
    return (
        f"other training, with less to see: {frames} / {before} = {frames / before:.2f} x the frames of a"
        " clip, and about as much of a step's time"
    )


def eight_bits(now: Situation, after: Config) -> str:
    """Return the price of an optimiser with 8-bit states."""
    return (
        "Adam's moments are rounded, so steps are others; the optimiser's part of a step takes"
        f" {_EIGHT_BIT_MS} / {_ADAMW_MS} = {_EIGHT_BIT_MS / _ADAMW_MS:.1f} x as long (18.3 M weights, 2 CPU"
        " cores)"
    )


def no_mean(now: Situation, after: Config) -> str:
    """Return the price of doing without the running mean of the weights."""
    weights = format_count(now.row(EMA) // 4)
    return (
        "the last weights are validated and kept instead of their mean, which are often a little worse; a"
        f" step saves a pass over {weights} weights"
    )


def no_vgg(now: Situation, after: Config) -> str:
    """Return the price of a loss without VGG."""
    section = now.config.loss.vgg_perceptual
    return _without_term("LOSS.VGG_PERCEPTUAL", section.weight, section.every_n_steps)


def no_lpips(now: Situation, after: Config) -> str:
    """Return the price of a loss without LPIPS."""
    section = now.config.loss.lpips
    return _without_term("LOSS.LPIPS", section.weight, section.every_n_steps)


def no_teacher(now: Situation, after: Config) -> str:
    """Return the price of learning without a teacher."""
    section = now.config.train.distill
    return _without_term("the teacher", section.weight, section.every_n_steps)


def _without_term(what: str, weight: float, every: int) -> str:
    steps = "every step" if every == 1 else f"1 of {every} steps"
    return f"another loss, without {what} (weight {weight:g}); {steps} is spared a pass through its network"


def shared_states(now: Situation, after: Config) -> str:
    """Return the price of ranks that share weights, gradients and optimiser states."""
    times, weights = after.train.gradient_accumulation_steps, format_bytes(now.row(PARAMETERS))
    return (
        f"the same steps but for rounding; 2 x {times} gathers and 1 reduction of {weights} a step between"
        " the ranks instead of 1 reduction (only the optimiser's states are counted as freed)"
    )


def clip_by_clip(now: Situation, after: Config) -> str:
    """Return the price of smaller batches in a validation."""
    before, batch = now.config.train.val_batch_size, after.train.val_batch_size
    times = f"{before} / {batch} = {before / batch:g}"
    return f"the same scores; a validation calls the network {times} x as often"


def smaller_tiles(now: Situation, after: Config) -> str:
    """Return the price of restoring held-out frames in tiles."""
    tile = tile_of(after.test)
    assert tile is not None
    sides = f"{tile.height} x {tile.width} px"
    if now.frame_shape is None:
        return f"scores differ a little; tiles of {sides} are restored twice where they overlap"
    plan = plan_tiles(1, now.frame_shape, tile=tile, overlap=overlap_of(after.test))
    height, width = now.frame_shape
    rows, columns = (sum(stop - start for start, stop in spans) for spans in (plan.rows, plan.columns))
    share = rows * columns / (height * width)
    return (
        f"scores differ a little; {plan.num_tiles} tiles of {sides} are {share:.2f} x the"
        f" {height} x {width} px of a frame, and about as much of a validation's time"
    )


def fewer_workers(now: Situation, after: Config) -> str:
    """Return the price of fewer training workers."""
    return _fewer("a batch", now.workers(now.config).train, now.workers(after).train, "steps wait for data")


def fewer_val_workers(now: Situation, after: Config) -> str:
    """Return the price of fewer validation workers."""
    before, left = now.workers(now.config).val, now.workers(after).val
    return _fewer("held-out frames", before, left, "a validation waits for data")


def no_workers(now: Situation, after: Config) -> str:
    """Return the price of loading in the training process."""
    before = now.workers(now.config).train
    return f"0 of {before} workers: the time of loading, hidden so far, is added to every step"


def _fewer(what: str, before: int, left: int, where: str) -> str:
    if left == 0:
        return f"0 of {before} workers: the training process loads {what} itself, and waits meanwhile"
    return f"{before} / {left} = {before / left:.1f} x as long to load {what}, felt where {where}"


def less_ready(now: Situation, after: Config) -> str:
    """Return the price of fewer batches that training workers keep ready."""
    return _less_ready(
        now.config.dataloader.train_prefetch_factor, after.dataloader.train_prefetch_factor, "training"
    )


def less_val_ready(now: Situation, after: Config) -> str:
    """Return the price of fewer batches that validation workers keep ready."""
    return _less_ready(
        now.config.dataloader.val_prefetch_factor, after.dataloader.val_prefetch_factor, "validation"
    )


def _less_ready(before: int, left: int, kind: str) -> str:
    return (
        f"as fast on average; a {kind} worker has {left} instead of {before} batches ready, so that"
        f" {left} / {before} = {left / before:.2f} of a stall is bridged"
    )


def half_the_cache(now: Situation, after: Config) -> str:
    """Return the price of a smaller cache."""
    before, left = now.config.data.cache_size_gb, after.data.cache_size_gb
    return (
        f"hits fall to {left:g} / {before:g} = {left / before:.2f} of what they are, at worst; each miss"
        f" decodes a frame ({_DECODING_MS} ms of a core for 720p)"
    )


def no_cache(now: Situation, after: Config) -> str:
    """Return the price of doing without the cache."""
    frames, _ = largest_clip(after.data)
    return (
        f"a clip decodes 2 x {frames} frames x {_DECODING_MS} ms = {2 * frames * _DECODING_MS} ms of a core"
        " (720p); nothing once the dataset is packed, by `deblurkit prepare-data pack`"
    )


def pageable(now: Situation, after: Config) -> str:
    """Return the price of batches that are not page-locked."""
    frames, side = largest_clip(after.data)
    crops = after.train.batch_size * frames * 2 * 3 * side**2
    return f"copies to the GPU ({format_bytes(crops)} of crops a micro-step) no longer overlap with the step"


def voxels_on_device(now: Situation, after: Config) -> str:
    """Return the price of voxels that workers do not make."""
    frames, side = largest_clip(after.data)
    voxels = after.train.batch_size * frames * after.data.num_voxel_bins * (side // 2) ** 2
    maker = "the GPU" if now.device_kind == "cuda" else "the training process"
    return f"the same numbers; {maker} makes {format_count(voxels)} voxels a micro-step, the workers none"
