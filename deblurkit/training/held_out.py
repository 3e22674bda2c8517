"""Held-out sequences as a run or an evaluation restores and scores them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from deblurkit.cache.node_cache import NodeCache
from deblurkit.config.schema import Config
from deblurkit.config.sections import DataSection
from deblurkit.data.clips import EvaluationClips
from deblurkit.data.loaders import evaluation_batches, evaluation_loader
from deblurkit.data.manifest import Split
from deblurkit.data.unified import Sequence, UnifiedDataset, open_dataset
from deblurkit.data.voxel_store import CountedReader
from deblurkit.errors import DataError
from deblurkit.models.registry import smallest_clip
from deblurkit.training import metrics
from deblurkit.training.precision import Precision
from deblurkit.training.validate import FrameCount, SpikeInput, Validation, validate


@dataclass(frozen=True)
class HeldOut:
    """A split that is restored and scored, and how it is loaded."""

    clips: EvaluationClips
    batch_size: int
    num_workers: int
    prefetch_factor: int

    def validate(
        self,
        model: nn.Module,
        *,
        precision: Precision,
        spikes: SpikeInput = "real",
        progress: FrameCount | None = None,
    ) -> Validation:
        """Return the scores of ``model`` on the split."""
        batches = evaluation_batches(self.clips, batch_size=self.batch_size)
        loader = evaluation_loader(
            self.clips,
            batches,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor,
            pin_memory=precision.device.type == "cuda",
        )
        return validate(
            model, self.clips, loader, batches, precision=precision, spikes=spikes, progress=progress
        )


def held_out_part(config: Config, *, split: Split | None = None) -> HeldOut:
    """Return the split that the configuration holds out, loaded as the TEST section says."""
    return HeldOut(
        evaluation_clips(
            open_dataset(config.data.root),
            config,
            split=split or config.data.val_split,
            counted=precomputed(config.data),
        ),
        batch_size=config.test.batch_size,
        num_workers=config.test.num_workers,
        prefetch_factor=config.dataloader.val_prefetch_factor,
    )


def sequences_of(dataset: UnifiedDataset, split: Split, *, cache: NodeCache | None = None) -> list[Sequence]:
    """Return the sequences of a split, read by way of ``cache`` if given.

    Raises:
        DataError: if it has none.
    """
    sequences = dataset.sequences(split, cache=cache)
    if not sequences:
        raise DataError(
            f"{dataset.root}: the split {split} holds no sequence; see DATA.TRAIN_SPLIT, DATA.VAL_SPLIT"
        )
    return sequences


def precomputed(section: DataSection) -> CountedReader | None:
    """Return what reads the voxels that were made before, where the configuration asks for them."""
    return CountedReader(section.root, section.num_voxel_bins) if section.use_precomputed_voxels else None


def evaluation_clips(
    dataset: UnifiedDataset,
    config: Config,
    *,
    split: Split,
    counted: CountedReader | None = None,
    on_worker: bool = True,
    cache: NodeCache | None = None,
) -> EvaluationClips:
    """Return the clips of a held-out split, which the network of the configuration can restore.

    Raises:
        DataError: if it cannot, or they cannot be scored.
    """
    if min(dataset.manifest.frame_shape) < metrics.WINDOW:
        raise DataError(
            f"{dataset.root}: frames of {dataset.manifest.frame_shape} cannot be scored;"
            f" SSIM needs sides of at least {metrics.WINDOW} pixels"
        )
    sequences = sequences_of(dataset, split, cache=cache)
    _check_restorable(dataset, sequences, smallest_clip(config.model))
    return EvaluationClips(
        sequences,
        clip_length=config.data.clip_len,
        num_voxel_bins=config.data.num_voxel_bins,
        voxels_on_worker=on_worker,
        counted=counted,
    )


def _check_restorable(
    dataset: UnifiedDataset, sequences: list[Sequence], least: tuple[int, int, int]
) -> None:
    """Raise a DataError if the network cannot restore a sequence of the dataset."""
    frames, height, width = least
    shape = dataset.manifest.frame_shape
    if shape[0] < height or shape[1] < width:
        raise DataError(
            f"{dataset.root}: frames of {shape[0]} x {shape[1]} px are too small for MODEL.ARCH and"
            f" MODEL.WINDOW_SIZE, which need {height} x {width}; take a smaller window or another network"
        )
    short = [sequence for sequence in sequences if sequence.num_frames < frames]
    if short:
        raise DataError(
            f"{dataset.root}: {short[0].name} has {short[0].num_frames} frame, MODEL.ARCH needs {frames}"
        )
