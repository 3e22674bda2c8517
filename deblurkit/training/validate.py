"""Restoring held-out sequences and scoring them against what the blurry input scored, on one rank or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from deblurkit.data.clips import EvaluationClips, EvaluationPart
from deblurkit.data.loaders import LoadedBatch, clear_errors
from deblurkit.data.prefetch import on_device
from deblurkit.data.raw import Clip
from deblurkit.errors import DataError
from deblurkit.training import metrics
from deblurkit.training.distributed import ALONE, Ranks
from deblurkit.training.precision import Precision
from deblurkit.training.step import takes_spikes, to_device
from deblurkit.training.tiling import NO_OVERLAP, Tile, TimeBlend, restore_tiled

SpikeInput = Literal["real", "zeroed", "shuffled"]
Frames = NDArray[np.uint8]
FrameCount = Callable[[int, int], None]
Perceptual: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # two (N, 3, H, W) in [0, 1] -> (N,)


@dataclass(frozen=True)
class FramePair:
    """One frame of a held-out sequence, each image (H, W, 3) uint8 RGB.

    Attributes:
        exact: what was restored, before it was rounded, float32 from 0 to 255; None where it is not kept.
    """

    sequence: str
    frame: int
    blurry: Frames
    restored: Frames
    sharp: Frames
    exact: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Score:
    """PSNR in dB and SSIM of restored frames, and of the blurry ones that they were made from.

    Attributes:
        lpips: perceptual distance (less is better), where it was measured; ``lpips_blurry`` likewise.
    """

    psnr_db: float
    ssim: float
    psnr_db_blurry: float
    ssim_blurry: float
    lpips: float | None = None
    lpips_blurry: float | None = None

    @property
    def gain_db(self) -> float:
        """How far the restored frames are ahead of the blurry ones."""
        same = self.psnr_db == self.psnr_db_blurry  # both infinite where every frame is perfect
        return 0.0 if same else self.psnr_db - self.psnr_db_blurry

    def as_dict(self) -> dict[str, float | None]:
        """Return the numbers as JSON can hold them: an infinite PSNR is None, LPIPS only where measured."""
        measured = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: value if math.isfinite(value) else None for name, value in measured.items()}


@dataclass(frozen=True)
class Validation:
    """The score of a split, with the protocol that made it.

    Attributes:
        protocol: name of the protocol; numbers of two protocols do not compare.
        score: mean over the sequences of the means over their frames, or over all frames (``pooled``).
        sequences: score of each sequence by name.
        example: the frame in the middle of the first sequence.
        split_sequences: sequences of the split where fewer were scored, a quick look; else None.
    """

    protocol: metrics.Protocol
    score: Score
    sequences: dict[str, Score]
    example: FramePair
    split_sequences: int | None = None


@dataclass(frozen=True)
class Share:
    """What one rank restores.

    Attributes:
        batches: parts to load, in order; the first ones may be only for the frames they share with others.
        owned: parts whose frames this rank scores.
    """

    batches: list[list[int]]
    owned: frozenset[int]


def share_of(clips: EvaluationClips, batches: Sequence[Sequence[int]], ranks: Ranks) -> Share:
    """Return a rank's run of ``batches``, about as many frames as every other's.

    Whole batches are dealt out, so that each is restored with the same neighbours as on one rank, and in runs
    that follow one another. Where windows are blended in time, the ones before the run that reach into it are
    restored again.
    """
    frames = [sum(_kept(clips.parts[index]) for index in batch) for batch in batches]
    middles = np.cumsum(frames) - np.array(frames) / 2
    ranks_of = (middles * ranks.world_size / max(1, sum(frames))).astype(int)
    mine = [number for number, rank in enumerate(ranks_of) if rank == ranks.rank]
    if not mine:
        return Share([], frozenset())
    first = clips.parts[batches[mine[0]][0]]
    lead = mine[0]
    while lead and _reaches(clips.parts[batches[lead - 1][-1]], first):
        lead -= 1
    return Share(
        [list(batch) for batch in batches[lead : mine[-1] + 1]],
        frozenset(index for number in mine for index in batches[number]),
    )


def _kept(part: EvaluationPart) -> int:
    return part.stop - part.keep_from


def _reaches(part: EvaluationPart, later: EvaluationPart) -> bool:
    return part.sequence == later.sequence and part.stop > later.keep_from


def validate(
    model: nn.Module,
    clips: EvaluationClips,
    loader: DataLoader[LoadedBatch],
    batches: Sequence[Sequence[int]],
    *,
    precision: Precision,
    spikes: SpikeInput = "real",
    progress: FrameCount | None = None,
    protocol: metrics.Protocol = "vrt",
    lpips: Perceptual | None = None,
    tile: Tile | None = None,
    overlap: Tile = NO_OVERLAP,
    ranks: Ranks = ALONE,
    owned: Collection[int] | None = None,
) -> Validation:
    """Restore the sequences of ``clips`` and return their scores, the same bits on every rank.

    Args:
        model: left in the mode (training or not) that it came in.
        clips: what to restore.
        loader: gives them in ``batches``.
        batches: parts of ``clips`` in each batch, of this rank alone (`share_of`).
        precision: autocast and device.
        spikes: what the network sees, see `_spikes_given`.
        progress: told (frames done, frames in all) of this rank after each frame.
        protocol: how frames are scored and averaged.
        lpips: measures LPIPS as well.
        tile: restore each clip in tiles of at most this, where given; else whole.
        overlap: of the tiles.
        ranks: those that score the other parts meanwhile.
        owned: parts that this rank scores; all of ``batches`` by default.

    Raises:
        DataError: on every rank, if a file cannot be read on one.
    """
    owned = {index for batch in batches for index in batch} if owned is None else owned
    total = sum(_kept(clips.parts[index]) for index in owned)
    numbers = {sequence.name: number for number, sequence in enumerate(clips.sequences)}
    rows: list[list[Any]] = []  # sequence, frame, its scores
    example: FramePair | None = None
    trouble: DataError | None = None
    restored = restore_frames(
        model,
        clips,
        loader,
        batches,
        precision=precision,
        spikes=spikes,
        tile=tile,
        overlap=overlap,
        owned=owned,
        exact=not metrics.is_rounded(protocol),
    )
    try:
        for done, pair in enumerate(restored, start=1):
            number = numbers[pair.sequence]
            rows.append([number, pair.frame, *_frame_score(pair, protocol, lpips, precision.device)])
            if example is None and pair.frame == clips.sequences[number].num_frames // 2:
                example = replace(pair, exact=None)
            if progress is not None:
                progress(done, total)
    except DataError as error:  # the others wait for this rank's scores
        if ranks.world_size == 1:
            raise
        trouble = error
    shares = ranks.gather({"rows": rows, "trouble": None if trouble is None else str(trouble)})
    told = [share["trouble"] for share in shares if share["trouble"] is not None]
    if told:
        raise DataError(told[0]) from trouble
    everything = sorted((row for share in shares for row in share["rows"]), key=lambda row: (row[0], row[1]))
    return _reduced(clips, everything, protocol, _example_of_all(example, numbers, ranks))


def restore_frames(
    model: nn.Module,
    clips: EvaluationClips,
    loader: DataLoader[LoadedBatch],
    batches: Sequence[Sequence[int]],
    *,
    precision: Precision,
    spikes: SpikeInput = "real",
    tile: Tile | None = None,
    overlap: Tile = NO_OVERLAP,
    owned: Collection[int] | None = None,
    exact: bool = False,
) -> Iterator[FramePair]:
    """Yield every frame of the ``owned`` parts once, restored clip by clip, in order.

    A part gives the frames from its ``keep_from`` on; where the one before reaches into them, the two are
    blended. ``exact`` keeps the values before rounding as well.
    """
    was_training = model.training
    model.eval()
    blends = _blends(clips)
    try:
        for batch, indices in zip(clear_errors(loader), batches, strict=True):
            clip = on_device(batch.clips, precision.device, clips.num_voxel_bins)
            restored = _restore(model, clip, precision, spikes, tile, overlap)
            here = Clip(clip.blurry.cpu(), clip.spikes, clip.sharp.cpu())
            for row, index in enumerate(indices):
                part = clips.parts[index]
                blend, number = blends[index]
                done = blend.add(number, restored[row, part.keep_from - part.start :])
                if owned is None or index in owned:
                    yield from _frame_pairs(clips, part, here, done, row, exact=exact)
    finally:
        model.train(was_training)


def _blends(clips: EvaluationClips) -> list[tuple[TimeBlend, int]]:
    """Return for each part what blends its sequence in time, and the part's number in it."""
    found: list[tuple[TimeBlend, int]] = []
    for which in range(len(clips.sequences)):
        parts = [part for part in clips.parts if part.sequence == which]
        blend = TimeBlend([(part.keep_from, part.stop) for part in parts])
        found += [(blend, number) for number in range(len(parts))]
    return found


@torch.no_grad()
def _restore(
    model: nn.Module,
    batch: Clip,
    precision: Precision,
    spikes: SpikeInput,
    tile: Tile | None,
    overlap: Tile,
) -> Tensor:
    """Return the restored batch as (B, T, 3, H, W) float32 on the CPU, neither rounded nor clamped."""
    batch = batch._replace(spikes=_spikes_given(batch.spikes, spikes))
    blurry, voxels, _ = to_device(batch, precision.device, spikes=takes_spikes(model))

    def call(blurry: Tensor, voxels: Tensor | None) -> Tensor:
        with precision.autocast():
            return model(blurry, voxels)

    if tile is None:
        return call(blurry, voxels).float().cpu()
    return restore_tiled(call, blurry, voxels, tile=tile, overlap=overlap)


def _spikes_given(spikes: Tensor, kind: SpikeInput) -> Tensor:
    """Return the voxels (B, T, K, h, w) that the network sees.

    ``zeroed`` is a dead sensor. ``shuffled`` gives every frame the spikes of the frame half a clip away, in
    a circle: as many, of the same scene, at another moment. What the network loses with these it had from
    the spikes of the very moment, and not from there being spikes at all. A clip of one frame has no other.
    """
    if kind == "zeroed":
        return torch.zeros_like(spikes)
    if kind == "shuffled":
        return spikes.roll(spikes.shape[1] // 2, dims=1)
    return spikes


def _frame_pairs(
    clips: EvaluationClips, part: EvaluationPart, batch: Clip, done: Tensor, row: int, *, exact: bool
) -> Iterator[FramePair]:
    for offset, frame in enumerate(done):
        at = part.keep_from + offset - part.start
        values = frame.mul(255)
        yield FramePair(
            sequence=clips.sequences[part.sequence].name,
            frame=part.keep_from + offset,
            blurry=_image(batch.blurry[row, at]),
            restored=_image(values.round().clamp(0, 255).byte()),
            sharp=_image(batch.sharp[row, at]),
            exact=np.ascontiguousarray(values.clamp(0, 255).permute(1, 2, 0).numpy()) if exact else None,
        )


def _image(frame: Tensor) -> Frames:
    return np.ascontiguousarray(frame.permute(1, 2, 0).numpy())


def _frame_score(
    pair: FramePair, protocol: metrics.Protocol, lpips: Perceptual | None, device: torch.device
) -> list[float]:
    """Return the numbers of a `Score`, without those of LPIPS where it is not measured."""
    restored = pair.restored if pair.exact is None else pair.exact
    scores = [
        *metrics.quality(restored, pair.sharp, protocol=protocol),
        *metrics.quality(pair.blurry, pair.sharp, protocol=protocol),
    ]
    if lpips is not None:
        sharp = _as_input(pair.sharp, device)
        with torch.no_grad():
            scores += [float(lpips(_as_input(image, device), sharp)) for image in (restored, pair.blurry)]
    return scores


def _as_input(image: metrics.Image, device: torch.device) -> Tensor:
    """Return an image as (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255


def _reduced(
    clips: EvaluationClips, rows: Sequence[Sequence[Any]], protocol: metrics.Protocol, example: FramePair
) -> Validation:
    """Return the scores of the frames of all ranks, which come in order, so that sums have one order too."""
    frames: dict[str, list[Score]] = {}
    for number, _, *values in rows:
        frames.setdefault(clips.sequences[number].name, []).append(Score(*values))
    sequences = {name: _mean(scores) for name, scores in frames.items()}
    pooled = [score for scores in frames.values() for score in scores]
    score = _mean(pooled if protocol == "pooled" else list(sequences.values()))
    split = len(clips.sequences)
    return Validation(protocol, score, sequences, example, split if split > len(sequences) else None)


def _mean(scores: Sequence[Score]) -> Score:
    columns = np.array([[value for value in asdict(score).values() if value is not None] for score in scores])
    return Score(*(float(value) for value in columns.mean(axis=0)))


def _example_of_all(example: FramePair | None, numbers: dict[str, int], ranks: Ranks) -> FramePair:
    """Return the middle frame of the first sequence, from the rank that has restored it."""
    held = ranks.gather(None if example is None else numbers[example.sequence])
    first = min((number, rank) for rank, number in enumerate(held) if number is not None)[1]
    if ranks.world_size > 1:
        mine = example is not None and first == ranks.rank
        sent = ranks.gather(_as_plain(example) if mine and example is not None else None)
        return _from_plain(sent[first])
    assert example is not None
    return example


def _as_plain(pair: FramePair) -> dict[str, Any]:
    """Return a frame as what ranks can send: its images are tensors."""
    images = [torch.from_numpy(image) for image in (pair.blurry, pair.restored, pair.sharp)]
    return {"sequence": pair.sequence, "frame": pair.frame, "images": images}


def _from_plain(plain: dict[str, Any]) -> FramePair:
    return FramePair(plain["sequence"], plain["frame"], *(image.numpy() for image in plain["images"]))
