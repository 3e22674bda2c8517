"""The dataset layout that everything here reads: PNGs, packed spikes, and a manifest that explains them.

::

    ROOT/manifest.json
    ROOT/{train,test}/<sequence>/{blur,sharp}/NNNNNN.png
    ROOT/{train,test}/<sequence>/spikes.dat

One ``spikes.dat`` holds all spike frames of a sequence (least significant bit first, bottom row first); the
manifest says at which of them each blurry frame's exposure starts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurkit.data.manifest import (
    MANIFEST,
    Frame,
    Manifest,
    SequenceRecord,
    Split,
    file_problems,
    listed,
    read_manifest,
    sequence_problems,
)
from deblurkit.data.spikes import PackedSpikes, SpikeGeometry
from deblurkit.errors import DataError


class Sequence:
    """The frames and spikes of one sequence, read one at a time.

    Holds paths and arrays, so a copy for a loader's worker costs little; the spikes are mapped on first use.
    """

    def __init__(self, root: Path, record: SequenceRecord, manifest: Manifest) -> None:
        self.name = record.name
        self.split = record.split
        self.frame_shape = manifest.frame_shape
        self.spike_shape = manifest.spike_shape
        self.spike_frames_per_exposure = record.spike_frames_per_exposure
        self.spike_margin = manifest.spike_margin
        self.stems = np.array(record.stems)
        self.spike_starts = np.array(record.spike_starts, dtype=np.int64)
        self._folder = root / record.folder
        self._spikes = PackedSpikes(self._folder / "spikes.dat", SpikeGeometry(*manifest.spike_shape))

    @property
    def num_frames(self) -> int:
        """Blurry frames, and as many sharp ones."""
        return len(self.stems)

    def read_blurry(self, index: int) -> Frame:
        """Return blurry frame ``index`` as RGB, uint8 (H, W, 3)."""
        return self._read_image("blur", index)

    def read_sharp(self, index: int) -> Frame:
        """Return the sharp frame at the centre of exposure ``index`` as RGB, uint8 (H, W, 3)."""
        return self._read_image("sharp", index)

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
        start = self._checked(index, self.spike_starts)
        stop = start + self.spike_frames_per_exposure + margin
        return self._spikes.read(start - margin, stop, top=top, left=left, height=height, width=width)

    def _read_image(self, kind: str, index: int) -> Frame:
        path = self._folder / kind / f"{self._checked(index, self.stems)}.png"
        bgr = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
        if bgr is None:
            raise DataError(f"{path}: {'damaged: not a readable PNG' if path.exists() else 'missing'}")
        if bgr.shape[:2] != self.frame_shape:
            raise DataError(f"{path}: {bgr.shape[:2]} pixels, the manifest says {self.frame_shape}")
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def _checked(self, index: int, values: NDArray[Any]) -> Any:
        if not 0 <= index < len(values):
            raise IndexError(f"frame {index} of {self.name}, which has {len(values)}")
        return values[index].item()


@dataclass(frozen=True)
class UnifiedDataset:
    """A dataset whose manifest has been checked against the files."""

    root: Path
    manifest: Manifest

    def sequences(self, split: Split) -> list[Sequence]:
        """Return the sequences of a split, in the manifest's order."""
        records = [record for record in self.manifest.sequences if record.split == split]
        return [Sequence(self.root, record, self.manifest) for record in records]


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


def open_dataset(root: Path | str) -> UnifiedDataset:
    """Return the dataset in ``root``, after checking its manifest and that every file is there in full.

    Raises:
        DataError: if the manifest is missing, invalid or of a newer version, or files are missing or cut.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such dataset folder; `deblurkit prepare-data` makes one")
    manifest = read_manifest(root / MANIFEST)
    problems = [*file_problems(root, manifest), *sequence_problems(manifest)]
    if problems:
        raise DataError(listed(f"{root}: the dataset does not match its {MANIFEST}", problems))
    return UnifiedDataset(root=root, manifest=manifest)


def verify_checksums(dataset: UnifiedDataset, *, progress: Callable[[int], None] | None = None) -> int:
    """Return the bytes read after comparing every file with its SHA-256.

    Args:
        dataset: an open dataset.
        progress: told the bytes of each file once it is read.

    Raises:
        DataError: naming the files that differ.
    """
    problems: list[str] = []
    total = 0
    for name, expected in dataset.manifest.files.items():
        if _sha256(dataset.root / name) != expected.sha256:
            problems.append(f"{name}: SHA-256 differs")
        total += expected.bytes
        if progress is not None:
            progress(expected.bytes)
    if problems:
        raise DataError(listed(f"{dataset.root}: damaged files", problems))
    return total


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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()
