"""Validations that a change of configuration leaves as they are, but for what training leaves beside them."""

from __future__ import annotations

from dataclasses import replace

from deblurkit.config.changed import changed
from deblurkit.config.schema import Config, as_values
from deblurkit.data.batch_bytes import largest_clip, ready_bytes
from deblurkit.memory.tensors import CONSTANTS, rounded
from deblurkit.tuning.step_memory import VALIDATION, StepMemory

_OF_TRAINING = (  # keys that a validation does not read: it takes no gradients, and clips of its own
    ("TRAIN", "BATCH_SIZE"),
    ("TRAIN", "GRADIENT_ACCUMULATION_STEPS"),
    ("DATA", "CROP_SIZE"),
    ("DATA", "TRAIN_CROP_SIZE"),
    ("DATA", "TRAIN_CLIP_LEN"),
)


def keeps_validation(now: Config, after: Config) -> bool:
    """Return whether two configurations differ in nothing that a validation reads."""
    values = as_values(now)
    settings = {f"{section}.{key}": values[section][key] for section, key in _OF_TRAINING}
    return changed(after, settings) == now


def with_validation(found: StepMemory, before: StepMemory, *, now: Config, after: Config) -> StepMemory:
    """Return a step with the validation of another configuration, which `keeps_validation`.

    While a validation runs, the batch that training took last is there, and so are the masks and positions
    that its network keeps; all else is the same. (What training and validation both keep, clips and tiles
    being alike, is thousandths of what is held.)

    Args:
        found: a step without a validation.
        before: a step with one.
        now: configuration of ``before``.
        after: configuration of ``found``.
    """
    validation = before.phases[VALIDATION] + _beside(found, after) - _beside(before, now)
    return replace(found, phases={**found.phases, VALIDATION: validation})


def _beside(step: StepMemory, config: Config) -> int:
    kept = sum(row.bytes or 0 for row in step.rows if row.name == CONSTANTS)
    return kept + _batch_bytes(config)


def _batch_bytes(config: Config) -> int:
    """Return what the tensors of the largest batch take as PyTorch rounds them."""
    data = config.data
    frames, side = largest_clip(data)
    clip = ready_bytes(frames, (side, side), (side // 2, side // 2), num_voxel_bins=data.num_voxel_bins)
    return sum(map(rounded, clip.times(config.train.batch_size)))
