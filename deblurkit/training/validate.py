"""Restoring held-out sequences and scoring them against what the blurry input scored, on one rank or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

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
from deblurkit.training.interrupt import InterruptedRun
from deblurkit.training.precision import Precision
from deblurkit.training.shares import frames_given
from deblurkit.training.step import takes_spikes, to_device
from deblurkit.training.tiling import NO_OVERLAP, Tile, TimeBlend, restore_tiled

SpikeInput = Literal["real", "zeroed", "shuffled"]
Frames = NDArray[np.uint8]
FrameCount = Callable[[int, int], None]
Perceptual: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # two (N, 3, H, W) in [0, 1] -> (N,)


class Lpips(NamedTuple):
    """LPIPS as a metric: the name of its network, without which a number says nothing, and the distance."""

    net: str
    distance: Perceptual


@dataclass(frozen=True)
class FramePair:
    """One frame of a held-out sequence, each image (H, W, 3) uint8 RGB.

    Attributes:
        exact: what was restored, before it was rounded, float32 from 0 to 255; None where it is not kept.
        is_finite: whether the network gave numbers; else ``restored`` is black where it gave none.
    """

    sequence: str
    frame: int
    blurry: Frames
    restored: Frames
    sharp: Frames
    exact: NDArray[np.float32] | None = None
    is_finite: bool = True


@dataclass(frozen=True)
class Score:
    """PSNR in dB and SSIM of restored frames, and of the blurry ones that they were made from.

    NaN where the network gave none of it as numbers.

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
        """Return the numbers as JSON can hold them: None for infinity and NaN, LPIPS only where measured."""
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
        frames_not_finite: restored frames with NaN or infinite values, which have no score.
        lpips_net: that LPIPS was measured on; None where it was not.
        tile: as TEST.TILE; None for whole frames.
        tile_overlap: as TEST.TILE_OVERLAP; None for whole frames.
    """

    protocol: metrics.Protocol
    score: Score
    sequences: dict[str, Score]
    example: FramePair
    split_sequences: int | None = None
    frames_not_finite: int = 0
    lpips_net: str | None = None
    tile: tuple[int, ...] | None = None
    tile_overlap: tuple[int, ...] | None = None

    @property
    def way(self) -> str:
        """How the numbers were made, in a few words; those of two ways do not compare."""
        if self.tile is None:
            return self.protocol
        return f"{self.protocol}, tiles of {' x '.join(map(str, self.tile))}"

    def as_words(self) -> str:
        """Return the score of the split and of the blurry frames, in one line."""
        score = self.score
        text = (
            f"PSNR {score.psnr_db:.2f} dB (blurry {score.psnr_db_blurry:.2f}),"
            f" SSIM {score.ssim:.4f} (blurry {score.ssim_blurry:.4f})"
        )
        if score.lpips is None:
            return text
        return f"{text}, LPIPS {self.lpips_net} {score.lpips:.4f} (blurry {score.lpips_blurry:.4f})"

    def as_dict(self) -> dict[str, Any]:
        """Return the score of the split as JSON can hold it, and how it was made."""
        how: dict[str, Any] = {"protocol": self.protocol}
        if self.tile is not None:
            how |= {"tile": self.tile, "tile_overlap": self.tile_overlap}
        if self.lpips_net is not None:
            how["lpips_net"] = self.lpips_net
        if self.frames_not_finite:
            how["frames_not_finite"] = self.frames_not_finite
        return how | self.score.as_dict()


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
    lpips: Lpips | None = None,
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
        progress: told (frames done, frames in all) of this rank, after each frame that is scored.
        protocol: how frames are scored and averaged.
        lpips: measures LPIPS as well.
        tile: restore each clip in tiles of at most this, where given; else whole.
        overlap: of the tiles.
        ranks: those that score the other parts meanwhile.
        owned: parts that this rank scores; all of ``batches`` by default.

    Raises:
        DataError: on every rank, if a file cannot be read on one.
        InterruptedRun: on every rank, if ``progress`` raises it on one.
    """
    owned = {index for batch in batches for index in batch} if owned is None else owned
    total = sum(frames_given(clips.parts, index) for index in owned)
    numbers = {sequence.name: number for number, sequence in enumerate(clips.sequences)}
    rows: list[list[Any]] = []  # sequence, frame, whether it is finite, its scores
    example: FramePair | None = None
    trouble: DataError | InterruptedRun | None = None
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
            scores = _frame_score(pair, protocol, lpips, precision.device)
            rows.append([number, pair.frame, pair.is_finite, *scores])
            if example is None and pair.frame == clips.sequences[number].num_frames // 2:
                example = replace(pair, exact=None)
            if progress is not None:
                progress(done, total)
    except (DataError, InterruptedRun) as error:  # the others wait for this rank's scores
        if ranks.world_size == 1:
            raise
        trouble = error
    shares = ranks.gather({"rows": rows, "trouble": _as_told(trouble)})
    for told in (share["trouble"] for share in shares if share["trouble"] is not None):
        raise _from_told(told) from trouble
    everything = sorted((row for share in shares for row in share["rows"]), key=lambda row: (row[0], row[1]))
    result = _reduced(clips, everything, protocol, _example_of_all(example, numbers, ranks))
    return replace(result, lpips_net=None if lpips is None else lpips.net)


def _as_told(trouble: DataError | InterruptedRun | None) -> dict[str, Any] | None:
    """Return why a rank has not restored its part, as what ranks can send."""
    if trouble is None:
        return None
    number = trouble.signal_number if isinstance(trouble, InterruptedRun) else 0
    return {"message": str(trouble), "signal": number}


def _from_told(told: dict[str, Any]) -> DataError | InterruptedRun:
    return InterruptedRun(told["message"], told["signal"]) if told["signal"] else DataError(told["message"])


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
            is_finite=bool(frame.isfinite().all()),
        )


def _image(frame: Tensor) -> Frames:
    return np.ascontiguousarray(frame.permute(1, 2, 0).numpy())


def _frame_score(
    pair: FramePair, protocol: metrics.Protocol, lpips: Lpips | None, device: torch.device
) -> list[float]:
    """Return the numbers of a `Score`, without those of LPIPS where it is not measured."""
    restored = pair.restored if pair.exact is None else pair.exact
    made = metrics.quality(restored, pair.sharp, protocol=protocol)
    scores = [
        *(made if pair.is_finite else (math.nan, math.nan)),
        *metrics.quality(pair.blurry, pair.sharp, protocol=protocol),
    ]
    if lpips is not None:
        sharp = _as_input(pair.sharp, device)
        with torch.no_grad():
            near, far = (
                float(lpips.distance(_as_input(image, device), sharp)) for image in (restored, pair.blurry)
            )
        scores += [near if pair.is_finite else math.nan, far]
    return scores


def _as_input(image: metrics.Image, device: torch.device) -> Tensor:
    """Return an image as (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255


def _reduced(
    clips: EvaluationClips, rows: Sequence[Sequence[Any]], protocol: metrics.Protocol, example: FramePair
) -> Validation:
    """Return the scores of the frames of all ranks, which come in order, so that sums have one order too."""
    frames: dict[str, list[Score]] = {}
    for number, _, _, *values in rows:
        frames.setdefault(clips.sequences[number].name, []).append(Score(*values))
    sequences = {name: _mean(scores) for name, scores in frames.items()}
    pooled = [score for scores in frames.values() for score in scores]
    score = _mean(pooled if protocol == "pooled" else list(sequences.values()))
    split = len(clips.sequences)
    few = split if split > len(sequences) else None
    bad = sum(not is_finite for _, _, is_finite, *_ in rows)
    return Validation(protocol, score, sequences, example, split_sequences=few, frames_not_finite=bad)


def _mean(scores: Sequence[Score]) -> Score:
    columns = np.array([[value for value in asdict(score).values() if value is not None] for score in scores])
    return Score(*(float(value) for value in columns.mean(axis=0)))


def _example_of_all(example: FramePair | None, numbers: dict[str, int], ranks: Ranks) -> FramePair:
    """Return the middle frame of the first sequence, from the rank that has restored it."""
    held = ranks.gather(None if example is None else numbers[example.sequence])
    first = min((number, rank) for rank, number in enumerate(held) if number is not None)[1]
    if ranks.world_size > 1:
        mine = None if example is None or first != ranks.rank else _as_plain(example)
        return _from_plain(ranks.from_rank(mine, source=first))
    assert example is not None
    return example


def _as_plain(pair: FramePair) -> dict[str, Any]:
    """Return a frame as what ranks can send: its images are tensors."""
    images = [torch.from_numpy(image) for image in (pair.blurry, pair.restored, pair.sharp)]
    return {
        "sequence": pair.sequence,
        "frame": pair.frame,
        "images": images,
        "is_finite": pair.is_finite,
    }


def _from_plain(plain: dict[str, Any]) -> FramePair:
    blurry, restored, sharp = (image.numpy() for image in plain["images"])
    name, frame, is_finite = plain["sequence"], plain["frame"], plain["is_finite"]
    return FramePair(name, frame, blurry, restored, sharp, is_finite=is_finite)
