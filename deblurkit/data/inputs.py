"""What a user wants restored: a folder of pictures, a video or a sequence of a dataset, and its spikes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from deblurkit.data.frames import Frame
from deblurkit.data.layouts.listing import counting_order, described
from deblurkit.data.layouts.source import image_shape, read_image
from deblurkit.data.manifest import MANIFEST
from deblurkit.data.reconstruct import voxels_of
from deblurkit.data.spikes import SpikeGeometry, SpikeStream, open_spikes
from deblurkit.data.unified import Sequence as UnifiedSequence
from deblurkit.data.unified import open_dataset
from deblurkit.data.video import decode_video, probe_video
from deblurkit.errors import DataError

PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Exposures:
    """The spikes of each frame of a clip.

    Attributes:
        stream: the recording.
        starts: the first spike frame of each exposure.
        length: spike frames of an exposure.
    """

    stream: SpikeStream
    starts: Sequence[int]
    length: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the sensor."""
        return self.stream.shape[1], self.stream.shape[2]

    def voxels(self, frames: slice, rows: slice, columns: slice, *, num_bins: int) -> Tensor:
        """Return the voxels of some frames, (t, K, height, width) float32; the crop is in spike pixels."""
        crop = {
            "top": rows.start,
            "left": columns.start,
            "height": rows.stop - rows.start,
            "width": columns.stop - columns.start,
        }
        exposures = (self.stream.read(start, start + self.length, **crop) for start in self.starts[frames])
        return torch.stack([voxels_of(_as_tensor(bits), num_bins) for bits in exposures])


def _as_tensor(bits: Frame) -> Tensor:
    """Return an array as a tensor; a copy of one that is mapped read-only, which PyTorch would warn of."""
    return torch.from_numpy(bits if bits.flags.writeable else bits.copy())


class Input(Protocol):
    """Blurry frames in their order, read a window of time at once.

    Attributes:
        names: of the frames, without a suffix.
        shape: rows and columns of each frame.
        spikes: that belong to the frames, where it is known.
        frame_rate: frames a second, where known.
    """

    names: list[str]
    shape: tuple[int, int]
    spikes: Exposures | None
    frame_rate: float | None

    def read(self, start: int, stop: int) -> Frame:
        """Return frames ``start`` to ``stop``, uint8 RGB (t, H, W, 3); ``start`` never falls."""
        ...


class PictureFolder:
    """The PNG and JPEG files of a folder, ``9`` before ``10``; hidden ones are no frames."""

    spikes: Exposures | None = None
    frame_rate: float | None = None

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(
            filter(_is_picture, folder.iterdir()), key=lambda path: counting_order(path.name)
        )
        if not self._paths:
            raise DataError(
                f"{folder}: expected PNG or JPEG frames, or a sequence of a prepared dataset (ROOT/test/X);"
                f" found {described(folder)}"
            )
        self.names = [path.stem for path in self._paths]
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise DataError(f"{folder}: two pictures are called {twice[0]}; expected one for each frame")
        self.shape = image_shape(self._paths[0])

    def read(self, start: int, stop: int) -> Frame:
        """Return frames ``start`` to ``stop``."""
        return np.stack([self._picture(path) for path in self._paths[start:stop]])

    def _picture(self, path: Path) -> Frame:
        picture = read_image(path)
        if picture.shape[:2] != self.shape:
            got, expected = ("x".join(map(str, shape)) for shape in (picture.shape[:2], self.shape))
            raise DataError(f"{path}: {got} pixels, expected {expected} as the first frame has")
        return picture


def _is_picture(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in PICTURES and path.is_file()


class Video:
    """The frames of a video, decoded once through; keeps those of one window.

    Its frames are counted by decoding it once before: what a container says of itself is often wrong.
    """

    spikes: Exposures | None = None

    def __init__(self, path: Path) -> None:
        info = probe_video(path)
        self._path = path
        self.shape = (info.height, info.width)
        self.frame_rate = info.frame_rate
        count = sum(1 for _ in decode_video(path))
        if not count:
            raise DataError(f"{path}: holds no frame")
        self.names = [f"{number:06d}" for number in range(count)]
        self._frames: Iterator[Frame] = decode_video(path)
        self._kept: dict[int, Frame] = {}
        self._next = 0

    def read(self, start: int, stop: int) -> Frame:
        """Return frames ``start`` to ``stop``."""
        self._kept = {number: frame for number, frame in self._kept.items() if number >= start}
        while self._next < stop:
            frame = next(self._frames)
            if frame.shape[:2] != self.shape:
                raise DataError(f"{self._path}: its frames change size at frame {self._next}")
            if self._next >= start:
                self._kept[self._next] = frame
            self._next += 1
        return np.stack([self._kept[number] for number in range(start, stop)])


class DatasetSequence:
    """A sequence of a prepared dataset: its blurry frames and their spikes.

    Args:
        sequence: to be restored.
        frame_rate: blurry frames a second, where the dataset says so.
    """

    def __init__(self, sequence: UnifiedSequence, *, frame_rate: float | None = None) -> None:
        self._sequence = sequence
        self.frame_rate = frame_rate
        self.names = [str(stem) for stem in sequence.stems]
        self.shape = sequence.frame_shape
        stream = open_spikes(sequence.folder / "spikes.dat", SpikeGeometry(*sequence.spike_shape))
        starts = [int(start) for start in sequence.spike_starts]
        self.spikes: Exposures | None = Exposures(stream, starts, sequence.spike_frames_per_exposure)

    def read(self, start: int, stop: int) -> Frame:
        """Return frames ``start`` to ``stop``."""
        return np.stack([self._sequence.read_blurry(index) for index in range(start, stop)])


def open_input(path: Path) -> Input:
    """Return the frames in ``path``: a folder of pictures, a video, or a sequence of a prepared dataset.

    Raises:
        DataError: if it is none of these.
    """
    if not path.exists():
        raise DataError(f"{path}: expected a folder of frames, a video or a sequence, found none")
    if path.is_file():
        return Video(path)
    return _sequence_in(path) or PictureFolder(path)


def _sequence_in(folder: Path) -> DatasetSequence | None:
    """Return the sequence of a prepared dataset that lies in ``folder``, ROOT/{train,test}/NAME."""
    folder = folder.resolve()
    root = folder.parent.parent
    if not (root / MANIFEST).is_file():
        return None
    dataset = open_dataset(root)
    sequences = [*dataset.sequences("train"), *dataset.sequences("test")]
    found = next((sequence for sequence in sequences if sequence.folder.resolve() == folder), None)
    return None if found is None else DatasetSequence(found, frame_rate=dataset.manifest.frame_rate)


def exposures_of_recording(
    path: Path, num_frames: int, *, geometry: SpikeGeometry | None = None, per_frame: int | None = None
) -> Exposures:
    """Return the spikes in a recording that begins with the first frame, exposures without a gap between.

    Args:
        path: as `open_spikes` takes it.
        num_frames: blurry frames.
        geometry: of a ``.dat`` that no config.yaml describes.
        per_frame: spike frames of an exposure; by default the recording is as long as the frames.

    Raises:
        DataError: if it cannot be read, or does not divide among the frames.
    """
    stream = open_spikes(path, geometry)
    total = stream.shape[0]
    length, rest = divmod(total, num_frames) if per_frame is None else (per_frame, 0)
    if rest or length < 1:
        raise DataError(
            f"{path}: {total} spike frames do not divide among {num_frames} frames; say how many belong to"
            " each by --spikes-per-frame"
        )
    if length * num_frames > total:
        raise DataError(
            f"{path}: expected {num_frames} x {length} spike frames, found {total}; give fewer frames or"
            " another --spikes-per-frame"
        )
    return Exposures(stream, [length * number for number in range(num_frames)], length)
