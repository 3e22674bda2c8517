"""DATA and DATALOADER: what is read, and by whom; every key with its default, unit, range and reason."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from deblurkit.config.sections.values import (
    Count,
    CountOrZero,
    FilePath,
    Flag,
    Pixels,
    Positive,
    Section,
    Share,
)

CpuShare = Annotated[
    str,
    Field(strict=True, pattern=r"^cpu\*(0?\.[0-9]*[1-9][0-9]*|1(\.0*)?)$", examples=["cpu*0.9"]),
]


class SensorNoiseSection(Section):
    """DATA.SENSOR_NOISE: spikes as another sensor might have given them; nothing is changed by default."""

    gain: tuple[Positive, Positive] = Field(
        (1.0, 1.0), description="Smallest and largest factor on the charge of light."
    )
    threshold: tuple[Positive, Positive] = Field(
        (1.0, 1.0), description="Smallest and largest factor on the charge at which a pixel fires."
    )
    false_spikes: Share = Field(0.0, description="Largest share of spike frames with a spike of no light.")
    dropout: Share = Field(0.0, description="Largest share of spikes that are lost.")
    shift: CountOrZero = Field(0, description="Most spike frames by which the recording is early or late.")


class DataSection(Section):
    """DATA: which recordings, and how samples are cut from them."""

    root: FilePath = Field(
        Path("data/processed/gopro_spike_unified"),
        description="Prepared dataset; a relative path counts from the working directory.",
    )
    train_split: Literal["train", "test"] = Field("train", description="Split that is trained on.")
    val_split: Literal["train", "test"] = Field(
        "test", description="Split that is validated on; GoPro has no third one."
    )
    crop_size: Pixels = Field(
        256, description="Side of the square crop [px]; a multiple of 8, the coarsest scale of the networks."
    )
    train_crop_size: Pixels | Annotated[tuple[Pixels, ...], Field(min_length=1)] | None = Field(
        None,
        description="Training crop [px] where smaller than CROP_SIZE; several for progressive training.",
    )
    train_crop_epochs: CountOrZero = Field(
        0, description="Epochs that each of TRAIN_CROP_SIZE lasts, before CROP_SIZE; 0: to the end."
    )
    clip_len: Count = Field(5, description="Frames of a clip.")
    train_clip_len: Count | Annotated[tuple[Count, ...], Field(min_length=1)] | None = Field(
        None,
        description="Frames of a training clip where fewer than CLIP_LEN; several for progressive training.",
    )
    train_clip_epochs: CountOrZero = Field(
        0, description="Epochs that each of TRAIN_CLIP_LEN lasts, before CLIP_LEN; 0: to the end."
    )
    num_voxel_bins: Count = Field(32, description="Time bins into which the spikes of a frame are counted.")
    k: Count | None = Field(
        None, description="Older name of NUM_VOXEL_BINS; where both are given they agree."
    )
    use_precomputed_voxels: Flag = Field(
        False,
        description="Read voxels from disk. Off: 32 float32 bins per pixel are far larger than the spikes.",
    )
    use_ram_cache: Flag = Field(
        False, description="Cache decoded samples. Off: on a shared server memory is given, not taken."
    )
    cache_size_gb: Positive = Field(4.0, description="Upper bound of the cache [GiB] where it is on.")
    voxels_on: Literal["auto", "worker", "device"] = Field(
        "auto",
        description="Where spike bits become voxels; auto is the GPU where there is one. The same numbers.",
    )
    sensor_noise: SensorNoiseSection = Field(
        default_factory=SensorNoiseSection, description="How training changes the spikes at random."
    )
    auto_synthetic: Flag = Field(
        False, description="Draw the built-in synthetic dataset at ROOT where nothing is there."
    )

    @property
    def train_crops(self) -> tuple[int, ...]:
        """Sides of the training crops [px] before CROP_SIZE takes over: TRAIN_CROP_SIZE as a list."""
        return _as_list(self.train_crop_size)

    @property
    def train_clips(self) -> tuple[int, ...]:
        """Frames of the training clips before CLIP_LEN takes over: TRAIN_CLIP_LEN as a list."""
        return _as_list(self.train_clip_len)

    @property
    def crops_by_epoch(self) -> tuple[tuple[int, int], ...]:
        """The training crops [px], each with the epoch from which it holds."""
        return _by_epoch(self.train_crops, self.crop_size, epochs=self.train_crop_epochs)

    @property
    def clips_by_epoch(self) -> tuple[tuple[int, int], ...]:
        """The frames of a training clip, each with the epoch from which it holds."""
        return _by_epoch(self.train_clips, self.clip_len, epochs=self.train_clip_epochs)

    @property
    def train_crop(self) -> int:
        """Side of the smallest training crop [px]."""
        return min(size for _, size in self.crops_by_epoch)

    @property
    def train_clip(self) -> int:
        """Frames of the shortest training clip."""
        return min(length for _, length in self.clips_by_epoch)

    @model_validator(mode="before")
    @classmethod
    def _take_k(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("K") is not None and "NUM_VOXEL_BINS" not in values:
            return {**values, "NUM_VOXEL_BINS": values["K"]}
        return values


def _as_list(sizes: int | tuple[int, ...] | None) -> tuple[int, ...]:
    return (sizes,) if isinstance(sizes, int) else sizes or ()


def _by_epoch(early: tuple[int, ...], last: int, *, epochs: int) -> tuple[tuple[int, int], ...]:
    """Return (first epoch, size) of each of ``early``, which last ``epochs`` each, and of ``last``."""
    if early and not epochs:
        return ((0, early[0]),)
    return tuple((epochs * number, size) for number, size in enumerate((*early, last)))


class DataLoaderSection(Section):
    """DATALOADER: worker processes and what they keep ready."""

    total_workers: CountOrZero | Literal["auto"] | CpuShare = Field(
        "auto", description="Training workers of the node, shared by its GPUs; auto is 80 % of the CPUs."
    )
    train_workers: CountOrZero | Literal["auto"] = Field(
        "auto", description="Training workers per GPU; auto is an equal part of TOTAL_WORKERS."
    )
    val_workers: CountOrZero | Literal["auto"] = Field(
        "auto", description="Validation workers per GPU; auto is half of the training workers."
    )
    train_prefetch_factor: Count = Field(4, description="Batches that each training worker keeps ready.")
    val_prefetch_factor: Count = Field(
        2, description="Batches that each validation worker keeps ready; whole frames are large."
    )
    pin_memory: Flag = Field(True, description="Page-locked batches, so that copies to the GPU overlap.")
    persistent_workers: Flag = Field(
        True, description="Keep workers from epoch to epoch; training's always live as long as the run."
    )
    group_by_sequence: Flag = Field(
        False,
        description="Train on all clips of a sequence, then on the next one's: a small cache is hit more.",
    )
    drop_last: Flag = Field(
        True, description="Leave out the clips of an epoch that do not fill a batch; off, those weigh more."
    )
