"""Restoring held-out sequences and scoring them against what the blurry input scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from deblurkit.data.clips import EvaluationClips
from deblurkit.data.loaders import LoadedBatch, clear_errors
from deblurkit.data.prefetch import on_device
from deblurkit.data.raw import Clip
from deblurkit.training import metrics
from deblurkit.training.precision import Precision
from deblurkit.training.step import takes_spikes, to_device

SpikeInput = Literal["real", "zeroed"]
Frames = NDArray[np.uint8]
FrameCount = Callable[[int, int], None]


@dataclass(frozen=True)
class FramePair:
    """One frame of a held-out sequence, each image (H, W, 3) uint8 RGB."""

    sequence: str
    frame: int
    blurry: Frames
    restored: Frames
    sharp: Frames


@dataclass(frozen=True)
class Score:
    """PSNR in dB and SSIM of restored frames, and of the blurry ones that they were made from."""

    psnr_db: float
    ssim: float
    psnr_db_blurry: float
    ssim_blurry: float

    @property
    def gain_db(self) -> float:
        """How far the restored frames are ahead of the blurry ones."""
        same = self.psnr_db == self.psnr_db_blurry  # both infinite where every frame is perfect
        return 0.0 if same else self.psnr_db - self.psnr_db_blurry

    def as_dict(self) -> dict[str, float | None]:
        """Return the four numbers as JSON can hold them: an infinite PSNR is None."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Validation:
    """The score of a split, with the protocol that made it.

    Attributes:
        protocol: name of the protocol; numbers of two protocols do not compare.
        score: mean over the sequences of the means over their frames.
        sequences: score of each sequence by name.
        example: the frame in the middle of the first sequence.
    """

    protocol: str
    score: Score
    sequences: dict[str, Score]
    example: FramePair


def validate(
    model: nn.Module,
    clips: EvaluationClips,
    loader: DataLoader[LoadedBatch],
    batches: Sequence[Sequence[int]],
    *,
    precision: Precision,
    spikes: SpikeInput = "real",
    progress: FrameCount | None = None,
) -> Validation:
    """Restore every sequence of ``clips`` and return its scores in VRT's protocol.

    Args:
        model: left in the mode (training or not) that it came in.
        clips: what to restore.
        loader: gives them in ``batches``.
        batches: parts of ``clips`` in each batch.
        precision: autocast and device.
        spikes: the recorded ones, or all zero, to see what the network makes of them.
        progress: told (frames done, frames in all) after each frame.
    """
    total = sum(sequence.num_frames for sequence in clips.sequences)
    scores: dict[str, list[Score]] = {}
    example: FramePair | None = None
    middle = clips.sequences[0].num_frames // 2
    restored = restore_frames(model, clips, loader, batches, precision=precision, spikes=spikes)
    for done, pair in enumerate(restored, start=1):
        scores.setdefault(pair.sequence, []).append(_frame_score(pair))
        if example is None and pair.frame == middle:
            example = pair
        if progress is not None:
            progress(done, total)
    sequences = {name: _mean(frames) for name, frames in scores.items()}
    assert example is not None
    return Validation(metrics.PROTOCOL, _mean(list(sequences.values())), sequences, example)


def restore_frames(
    model: nn.Module,
    clips: EvaluationClips,
    loader: DataLoader[LoadedBatch],
    batches: Sequence[Sequence[int]],
    *,
    precision: Precision,
    spikes: SpikeInput = "real",
) -> Iterator[FramePair]:
    """Yield every frame of every sequence once, restored clip by clip, in order."""
    was_training = model.training
    model.eval()
    try:
        for batch, indices in zip(clear_errors(loader), batches, strict=True):
            clip = on_device(batch.clips, precision.device, clips.num_voxel_bins)
            restored = _restore(model, clip, precision, spikes)
            here = Clip(clip.blurry.cpu(), clip.spikes, clip.sharp.cpu())
            for row, index in enumerate(indices):
                yield from _kept_frames(clips, index, here, restored, row)
    finally:
        model.train(was_training)


@torch.no_grad()
def _restore(model: nn.Module, batch: Clip, precision: Precision, spikes: SpikeInput) -> Tensor:
    """Return the restored batch as (B, T, 3, H, W) uint8 on the CPU."""
    if spikes == "zeroed":
        batch = batch._replace(spikes=torch.zeros_like(batch.spikes))
    blurry, voxels, _ = to_device(batch, precision.device, spikes=takes_spikes(model))
    with precision.autocast():
        restored = model(blurry, voxels)
    return restored.float().mul(255).round().clamp(0, 255).byte().cpu()


def _kept_frames(
    clips: EvaluationClips, index: int, batch: Clip, restored: Tensor, row: int
) -> Iterator[FramePair]:
    part = clips.parts[index]
    for frame in range(part.keep_from, part.stop):
        at = frame - part.start
        yield FramePair(
            sequence=clips.sequences[part.sequence].name,
            frame=frame,
            blurry=_image(batch.blurry[row, at]),
            restored=_image(restored[row, at]),
            sharp=_image(batch.sharp[row, at]),
        )


def _image(frame: Tensor) -> Frames:
    return np.ascontiguousarray(frame.permute(1, 2, 0).numpy())


def _frame_score(pair: FramePair) -> Score:
    return Score(
        psnr_db=metrics.psnr_db(pair.restored, pair.sharp),
        ssim=metrics.ssim(pair.restored, pair.sharp),
        psnr_db_blurry=metrics.psnr_db(pair.blurry, pair.sharp),
        ssim_blurry=metrics.ssim(pair.blurry, pair.sharp),
    )


def _mean(scores: Sequence[Score]) -> Score:
    columns = np.array([[s.psnr_db, s.ssim, s.psnr_db_blurry, s.ssim_blurry] for s in scores])
    return Score(*(float(value) for value in columns.mean(axis=0)))
