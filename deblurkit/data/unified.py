"""The dataset layout that everything here reads: PNGs, packed spikes, and a manifest that explains them.

::

    ROOT/manifest.json
    ROOT/{train,test}/<sequence>/{blur,sharp}/NNNNNN.png
    ROOT/{train,test}/<sequence>/spikes.dat

One ``spikes.dat`` holds all spike frames of a sequence (least significant bit first, bottom row first); the
manifest says at which of them each blurry frame's exposure starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deblurkit.data.frames import Cache, CachedFrames, Frame, FrameReader, PackedFrames, PngFrames, Window
from deblurkit.data.manifest import (
    MANIFEST,
    Manifest,
    SequenceRecord,
    Split,
    file_problems,
    listed,
    read_manifest,
    sequence_problems,
)
from deblurkit.data.spikes import PackedSpikes, SpikeGeometry
from deblurkit.data.verified import damaged_files, require_verified
from deblurkit.errors import DataError


class Sequence:
    """The frames and spikes of one sequence, read one at a time.

    Holds paths and arrays, so a copy for a loader's worker costs little; what is mapped is mapped on first
    use.

    Args:
        root: of the dataset.
        record: of the sequence.
        manifest: of the dataset.
        cache: keeps decoded PNGs for all processes of the node, where given.
    """

    def __init__(
        self, root: Path, record: SequenceRecord, manifest: Manifest, *, cache: Cache | None = None
    ) -> None:
        self.name = record.name
        self.split = record.split
        self.frame_shape = manifest.frame_shape
        self.spike_shape = manifest.spike_shape
        self.spike_frames_per_exposure = record.spike_frames_per_exposure
        self.spike_margin = manifest.spike_margin
        self.stems = np.array(record.stems)
        self.spike_starts = np.array(record.spike_starts, dtype=np.int64)
        self._is_continuous = bool((np.diff(self.spike_starts) == record.spike_frames_per_exposure).all())
        self.folder = root / record.folder
        self.cache = cache
        self.frames = self._reader(manifest, cache)
        self._spikes = PackedSpikes(self.folder / "spikes.dat", SpikeGeometry(*manifest.spike_shape))

    def _reader(self, manifest: Manifest, cache: Cache | None) -> FrameReader:
        if manifest.storage == "packed":
            return PackedFrames(self.folder, self.num_frames, self.frame_shape)
        decoded = PngFrames(self.folder, self.stems, self.frame_shape)
        return decoded if cache is None else CachedFrames(decoded, cache, f"{self.split}/{self.name}")

    @property
    def num_frames(self) -> int:
        """Blurry frames, and as many sharp ones."""
        return len(self.stems)

    def read_blurry(self, index: int, window: Window | None = None) -> Frame:
        """Return blurry frame ``index``, or a window of it, as RGB, uint8 (H, W, 3).

        Raises:
            DataError: if the file is missing, damaged or of another size.
        """
        return self.frames.read("blur", self._checked(index), window)

    def read_sharp(self, index: int, window: Window | None = None) -> Frame:
        """Return the sharp frame at the centre of exposure ``index``, or a window of it, as RGB uint8."""
        return self.frames.read("sharp", self._checked(index), window)

    def read_spikes(
        self,
        index: int,
        *,
        top: int = 0,
        left: int = 0,
        height: int | None = None,
        width: int | None = None,
        margin: int = 0,
    ) -> Frame:
        """Return the spikes of exposure ``index``, uint8 (T + 2 * margin, height, width) of 0 and 1, upright.

        Args:
            index: which exposure.
            top: first row of the crop, in spike pixels.
            left: first column of the crop, in spike pixels.
            height: rows of the crop; all by default.
            width: columns of the crop; all by default.
            margin: frames to add before and after, at most the dataset's ``spike_margin``.
        """
        if not 0 <= margin <= self.spike_margin:
            raise ValueError(
                f"{self.name} has {self.spike_margin} spike frames around an exposure, not {margin}"
            )
        start = int(self.spike_starts[self._checked(index)])
        stop = start + self.spike_frames_per_exposure + margin
        return self._spikes.read(start - margin, stop, top=top, left=left, height=height, width=width)

    def read_packed_spikes(self, index: int, window: Window, *, shift: int = 0) -> Frame:
        """Return the spikes of exposure ``index`` as bits, uint8 (T, height, b); `PackedSpikes.read_packed`.

        Args:
            index: which exposure.
            window: in spike pixels.
            shift: spike frames later than the exposure, as far as its recording reaches: beyond the margin
                only where the exposures follow one another without a gap.
        """
        if not self._is_continuous:
            shift = min(max(shift, -self.spike_margin), self.spike_margin)
        last = self._spikes.shape[0] - self.spike_frames_per_exposure
        start = min(max(int(self.spike_starts[self._checked(index)]) + shift, 0), last)
        return self._spikes.read_packed(start, start + self.spike_frames_per_exposure, **window._asdict())

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.num_frames:
            raise IndexError(f"frame {index} of {self.name}, which has {self.num_frames}")
        return index


@dataclass(frozen=True)
class UnifiedDataset:
    """A dataset whose manifest has been checked against the files."""

    root: Path
    manifest: Manifest

    def sequences(self, split: Split, *, cache: Cache | None = None) -> list[Sequence]:
        """Return the sequences of a split, in the manifest's order; PNGs by way of ``cache`` if given."""
        records = [record for record in self.manifest.sequences if record.split == split]
        return [Sequence(self.root, record, self.manifest, cache=cache) for record in records]


@dataclass(frozen=True)
class DatasetSummary:
    """What a person wants to know of a dataset; shapes are rows and columns."""

    root: str
    train_sequences: int
    test_sequences: int
    train_frames: int
    test_frames: int
    frame_shape: tuple[int, int]
    spike_shape: tuple[int, int]
    mean_spike_rate: float
    total_bytes: int


def open_dataset(root: Path | str, *, progress: Callable[[int, int], None] | None = None) -> UnifiedDataset:
    """Return the dataset in ``root``, after checking its manifest and that every file is there in full.

    A packed dataset, whose bytes nothing else checks on their way, is read once after each change of it.

    Args:
        root: its folder.
        progress: told the bytes read and the bytes to read, where a packed dataset is verified.

    Raises:
        DataError: if the manifest is missing, invalid or of a newer version, or files are missing, cut, or
            damaged.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such dataset folder; `deblurkit prepare-data` makes one")
    manifest = read_manifest(root / MANIFEST)
    problems = [*file_problems(root, manifest), *sequence_problems(manifest)]
    if problems:
        raise DataError(listed(f"{root}: the dataset does not match its {MANIFEST}", problems))
    if manifest.storage == "packed":
        require_verified(root, manifest, progress=progress)
    return UnifiedDataset(root=root, manifest=manifest)


def verify_checksums(dataset: UnifiedDataset, *, progress: Callable[[int, int], None] | None = None) -> int:
    """Return the bytes read after comparing every file with its SHA-256.

    Args:
        dataset: an open dataset.
        progress: told the bytes done and the bytes of all files.

    Raises:
        DataError: naming the files that differ.
    """
    files = dataset.manifest.files
    damaged = damaged_files(dataset.root, files, files, progress=progress)
    if damaged:
        problems = [f"{name}: SHA-256 differs" for name in damaged]
        raise DataError(listed(f"{dataset.root}: damaged files", problems))
    return sum(record.bytes for record in files.values())


def summarise(dataset: UnifiedDataset) -> DatasetSummary:
    """Return sizes and counts of a dataset and the share of its spike bits that are set."""
    manifest = dataset.manifest
    frames = {
        split: [len(s.stems) for s in manifest.sequences if s.split == split] for split in ("train", "test")
    }
    return DatasetSummary(
        root=str(dataset.root),
        train_sequences=len(frames["train"]),
        test_sequences=len(frames["test"]),
        train_frames=sum(frames["train"]),
        test_frames=sum(frames["test"]),
        frame_shape=manifest.frame_shape,
        spike_shape=manifest.spike_shape,
        mean_spike_rate=_mean_spike_rate(dataset),
        total_bytes=sum(record.bytes for record in manifest.files.values()),
    )


def _mean_spike_rate(dataset: UnifiedDataset) -> float:
    bits_of = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
    fired = total = 0
    for record in dataset.manifest.sequences:
        data = np.fromfile(dataset.root / record.folder / "spikes.dat", dtype=np.uint8)
        fired += int(np.bincount(data, minlength=256) @ bits_of)
        total += 8 * data.size
    return fired / total
