"""Held-out sequences as a run or an evaluation restores and scores them."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from deblurkit.cache.node_cache import NodeCache
from deblurkit.config.schema import Config
from deblurkit.config.sections.data import DataSection
from deblurkit.config.sections.run import TestSection
from deblurkit.data.clips import EvaluationClips, EvaluationPart
from deblurkit.data.loaders import evaluation_batches, evaluation_loader
from deblurkit.data.manifest import Split
from deblurkit.data.unified import Sequence, UnifiedDataset, open_dataset
from deblurkit.data.voxel_store import CountedReader
from deblurkit.errors import DataError
from deblurkit.models.registry import smallest_clip
from deblurkit.training import metrics
from deblurkit.training.distributed import ALONE, Ranks
from deblurkit.training.precision import Precision
from deblurkit.training.shares import share_of
from deblurkit.training.tiling import Tile, plan_tiles, spans
from deblurkit.training.validate import (
    FrameCount,
    Lpips,
    SpikeInput,
    Validation,
    validate,
)

_ALL_FRAMES = 2**31  # of a clip, however long: it was cut in time when it was loaded


@dataclass(frozen=True)
class HeldOut:
    """A split that is restored and scored, and how.

    Attributes:
        test: protocol, tiles and the size of a quick look.
    """

    clips: EvaluationClips
    batch_size: int
    num_workers: int
    prefetch_factor: int
    test: TestSection = field(default_factory=TestSection)

    def validate(
        self,
        model: nn.Module,
        *,
        precision: Precision,
        spikes: SpikeInput = "real",
        progress: FrameCount | None = None,
        ranks: Ranks = ALONE,
        quick: bool = False,
        lpips: Lpips | None = None,
    ) -> Validation:
        """Return the scores of ``model`` on the split, the same on every rank.

        Args:
            model: in the state that every rank has.
            precision: autocast and device of this rank.
            spikes: what the network sees.
            progress: told (frames done, frames in all) of this rank.
            ranks: the processes that share the work; all of them call this.
            quick: score TEST.QUICK_SEQUENCES evenly spaced sequences, always the same ones.
            lpips: measures LPIPS as well.
        """
        share = share_of(self.clips, self._batches(quick=quick), ranks)
        loader = evaluation_loader(
            self.clips,
            share.batches,
            num_workers=min(self.num_workers, len(share.batches)),
            prefetch_factor=self.prefetch_factor,
            pin_memory=precision.device.type == "cuda",
        )
        result = validate(
            model,
            self.clips,
            loader,
            share.batches,
            precision=precision,
            spikes=spikes,
            progress=progress,
            protocol=self.test.protocol,
            lpips=lpips,
            tile=tile_of(self.test),
            overlap=overlap_of(self.test),
            ranks=ranks,
            owned=share.owned,
        )
        if self.test.tile is None:
            return result
        return replace(result, tile=self.test.tile, tile_overlap=self.test.tile_overlap)

    @property
    def can_shuffle(self) -> bool:
        """Whether a clip has frames whose spikes another one of it can get."""
        return any(part.stop - part.start > 1 for part in self.clips.parts)

    def _batches(self, *, quick: bool) -> list[list[int]]:
        """Return the parts to restore in batches, of all sequences or of a few."""
        batches = evaluation_batches(self.clips, batch_size=self.batch_size)
        if not quick:
            return batches
        chosen = set(quick_sequences(len(self.clips.sequences), self.test.quick_sequences))
        return [batch for batch in batches if self.clips.parts[batch[0]].sequence in chosen]


def quick_sequences(total: int, wanted: int) -> list[int]:
    """Return the numbers of ``wanted`` of ``total`` sequences, evenly spaced; all where there are no more."""
    count = min(total, wanted)
    return [(2 * number + 1) * total // (2 * count) for number in range(count)]


class WindowedClips(EvaluationClips):
    """Whole frames in windows of time, to be blended where they overlap: by half a window at most."""

    def __init__(self, sequences: list[Sequence], *, window: int, overlap: int, **others: Any) -> None:
        super().__init__(sequences, clip_length=window, **others)
        self.parts = [
            EvaluationPart(which, start, stop, keep_from=start)
            for which, sequence in enumerate(sequences)
            for start, stop in spans(sequence.num_frames, window, min(overlap, window // 2))
        ]


def tile_of(section: TestSection) -> Tile | None:
    """Return the tile that TEST.TILE asks for, None for whole frames; clips are cut in time before."""
    if section.tile is None:
        return None
    return Tile(_ALL_FRAMES, section.tile[-2], section.tile[-1])


def overlap_of(section: TestSection) -> Tile:
    """Return TEST.TILE_OVERLAP."""
    return Tile(*section.tile_overlap)


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
        test=config.test,
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
    least = smallest_clip(config.model)
    _check_restorable(dataset, sequences, least)
    tile = config.test.tile
    if tile is not None:
        check_tile(tile, config.test.tile_overlap, least)
        shapes = dataset.manifest.frame_shape, dataset.manifest.spike_shape
        _check_plan(config, frame_shape=shapes[0], spike_shape=shapes[1])
    how: dict[str, Any] = {
        "num_voxel_bins": config.data.num_voxel_bins,
        "voxels_on_worker": on_worker,
        "counted": counted,
    }
    if tile is None or len(tile) == 2:
        return EvaluationClips(sequences, clip_length=config.data.clip_len, **how)
    return WindowedClips(sequences, window=tile[0], overlap=config.test.tile_overlap[0], **how)


def check_tile(tile: SequenceOf[int], overlap: SequenceOf[int], least: tuple[int, int, int]) -> None:
    """Raise a DataError if a network that needs clips of ``least`` cannot restore such tiles."""
    smallest = least[-len(tile) :]
    if any(size < needed for size, needed in zip(tile, smallest, strict=True)):
        raise DataError(
            f"TEST.TILE: expected tiles of at least {_by(smallest)} for this network, got {_by(tile)}"
        )
    sides, shared = tile[-2:], overlap[-2:]
    if any(2 * common > side for side, common in zip(sides, shared, strict=True)):
        raise DataError(
            f"TEST.TILE_OVERLAP: expected at most half of tiles of {_by(sides)} px, got {_by(shared)}"
        )


def _check_plan(config: Config, *, frame_shape: tuple[int, int], spike_shape: tuple[int, int]) -> None:
    """Raise a DeblurkitError now if frames of this size cannot be cut into TEST.TILE."""
    tile = tile_of(config.test)
    assert tile is not None
    seen = spike_shape if config.model.use_spike else None
    plan_tiles(1, frame_shape, tile=tile, overlap=overlap_of(config.test), spike_shape=seen)


def _by(sizes: SequenceOf[int]) -> str:
    return " x ".join(map(str, sizes))


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
