"""Keys that are fine one by one and contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deblurkit.config.sections import DataSection, ModelSection, TrainSection

VRT_DEPTH_COUNTS = (8, 11, 13)  # 7 stages, and 1, 4 or 6 groups of the reconstruction stage
VRT_SMALLEST_CROP = 40  # at 32 px the coarsest level of VRT's flow pyramid has no pixel


@dataclass(frozen=True)
class Contradiction:
    """What does not go together.

    Attributes:
        keys: the keys concerned, dotted; a message stands where one of them was written.
        message: what is wrong and what to do.
    """

    keys: tuple[str, ...]
    message: str


def contradictions(data: DataSection, model: ModelSection, train: TrainSection) -> list[Contradiction]:
    """Return all that does not go together, in the order of the keys."""
    return [*_in_data(data), *_in_model(model), *_in_train(train), *_for_vrt(data, model)]


def _in_data(data: DataSection) -> Iterator[Contradiction]:
    if data.k is not None and data.k != data.num_voxel_bins:
        yield Contradiction(
            ("DATA.K", "DATA.NUM_VOXEL_BINS"),
            f"K is the older name of NUM_VOXEL_BINS and has to agree with it, but K is {data.k}"
            f" and NUM_VOXEL_BINS {data.num_voxel_bins}; give NUM_VOXEL_BINS only",
        )
    if data.train_crop > data.crop_size:
        yield Contradiction(
            ("DATA.TRAIN_CROP_SIZE", "DATA.CROP_SIZE"),
            f"expected at most CROP_SIZE ({data.crop_size}), got {data.train_crop};"
            " training begins with smaller crops, so raise CROP_SIZE or leave TRAIN_CROP_SIZE out",
        )


def _in_model(model: ModelSection) -> Iterator[Contradiction]:
    if len(model.vrt_depths) not in VRT_DEPTH_COUNTS:
        yield Contradiction(
            ("MODEL.VRT_DEPTHS",),
            "expected 8, 11 or 13 values (7 stages, and 1, 4 or 6 groups of the reconstruction stage),"
            f" got {len(model.vrt_depths)}",
        )
    if len(model.channels_per_scale) != model.layers:
        yield Contradiction(
            ("MODEL.CHANNELS_PER_SCALE", "MODEL.LAYERS"),
            f"expected one value for each of the {model.layers} LAYERS, got {len(model.channels_per_scale)}",
        )
    for name, section in (("SPIKE_TSA", model.spike_tsa), ("FUSE", model.fuse)):
        undivided = [width for width in model.channels_per_scale if width % section.heads]
        if undivided:
            yield Contradiction(
                (f"MODEL.{name}.HEADS", "MODEL.CHANNELS_PER_SCALE"),
                f"expected a divisor of every entry of CHANNELS_PER_SCALE, got {section.heads},"
                f" which does not divide {undivided[0]}",
            )


def _in_train(train: TrainSection) -> Iterator[Contradiction]:
    warmup = train.sched.warmup_steps
    if train.max_steps is not None and warmup > train.max_steps:
        yield Contradiction(
            ("TRAIN.SCHED.WARMUP_STEPS", "TRAIN.MAX_STEPS"),
            f"the warm-up of {warmup} steps is longer than the run of MAX_STEPS {train.max_steps};"
            f" set WARMUP_STEPS to at most that",
        )
    if train.sched.min_lr > train.optim.lr:
        yield Contradiction(
            ("TRAIN.SCHED.MIN_LR", "TRAIN.OPTIM.LR"),
            f"expected at most TRAIN.OPTIM.LR ({train.optim.lr:g}), got {train.sched.min_lr:g}",
        )


def _for_vrt(data: DataSection, model: ModelSection) -> Iterator[Contradiction]:
    if model.arch != "vrt":
        return
    if data.clip_len < 2:
        yield Contradiction(
            ("DATA.CLIP_LEN", "MODEL.ARCH"),
            f"expected at least 2 frames for MODEL.ARCH vrt, which aligns neighbours, got {data.clip_len}",
        )
    if data.train_crop < VRT_SMALLEST_CROP:
        key = "DATA.CROP_SIZE" if data.train_crop_size is None else "DATA.TRAIN_CROP_SIZE"
        yield Contradiction(
            (key, "MODEL.ARCH"),
            f"expected at least {VRT_SMALLEST_CROP} px for MODEL.ARCH vrt, whose flow pyramid has six levels,"
            f" got {data.train_crop}",
        )
