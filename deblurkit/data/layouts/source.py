"""What every layout is read into: sequences of exposures, each a blurry frame, a sharp one and its spikes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from pydantic import JsonValue

from deblurkit.data.frames import Frame, read_bytes
from deblurkit.data.manifest import Split
from deblurkit.data.simulate import BlurVariant
from deblurkit.data.spikes import SpikeGeometry, open_spikes
from deblurkit.errors import DataError


@dataclass(frozen=True)
class SourceExposure:
    """One blurry frame and what belongs to it.

    Attributes:
        stem: its name in the sequence.
        blurry: the blurry frame.
        sharp: the sharp frame at the centre of its exposure.
        spikes: the recording that holds its spikes; one file may serve many exposures.
        first_spike: frame of that recording at which the exposure starts.
    """

    stem: str
    blurry: Path
    sharp: Path
    spikes: Path
    first_spike: int


@dataclass(frozen=True)
class SourceSequence:
    """The exposures of one sequence, in order of time; files may be missing, reading says so.

    Attributes:
        split: train or test.
        name: of the sequence.
        exposures: those that the layout promises spikes for.
        spike_frames: spike frames in one exposure.
        sharp_frames: sharp frames that were averaged into a blurry one, where known.
        geometry: of its spike recordings.
        recording_frames: spike frames that each recording holds, where the layout promises a number.
    """

    split: Split
    name: str
    exposures: tuple[SourceExposure, ...]
    spike_frames: int
    sharp_frames: int | None
    geometry: SpikeGeometry
    recording_frames: int | None = None

    @property
    def num_frames(self) -> int:
        """Blurry frames that have spikes."""
        return len(self.exposures)

    def read_blurry(self, index: int) -> Frame:
        """Return blurry frame ``index`` as RGB, uint8 (H, W, 3).

        Raises:
            DataError: if the file is missing or damaged.
        """
        return read_image(self.exposures[index].blurry)

    def read_sharp(self, index: int) -> Frame:
        """Return the sharp frame of exposure ``index`` as RGB, uint8 (H, W, 3)."""
        return read_image(self.exposures[index].sharp)

    def read_spikes(self, index: int, *, margin: int = 0) -> Frame:
        """Return the spikes of exposure ``index``, uint8 (margin + T + margin, h, w) of 0 and 1, upright.

        Raises:
            DataError: if the recording is missing, of another length, or does not reach that far.
        """
        exposure = self.exposures[index]
        recording = open_spikes(exposure.spikes, self.geometry)
        if self.recording_frames not in (None, recording.shape[0]):
            raise DataError(
                f"{exposure.spikes}: {recording.shape[0]} spike frames, {self.recording_frames} expected"
            )
        start = exposure.first_spike - margin
        stop = exposure.first_spike + self.spike_frames + margin
        if start < 0 or stop > recording.shape[0]:
            raise DataError(
                f"{exposure.spikes}: {recording.shape[0]} spike frames, but frame {exposure.stem} needs"
                f" {start} to {stop}"
            )
        return recording.read(start, stop)


@dataclass(frozen=True)
class SourceDataset:
    """A dataset in one of the known layouts.

    Attributes:
        layout: its name, as detection and reports say it.
        root: the folder that the user named.
        sequences: train first, each split in the order of the names.
        blur_variant: how light was averaged into the blurry frames.
        spike_margin: spike frames recorded before and after every exposure.
        spikes_per_sharp_frame: spike frames in the time of one sharp frame, where known.
        options: what else was chosen in reading it, for the manifest of a conversion.
    """

    layout: str
    root: Path
    sequences: tuple[SourceSequence, ...]
    blur_variant: BlurVariant
    spike_margin: int = 0
    spikes_per_sharp_frame: int | None = None
    options: dict[str, JsonValue] = field(default_factory=dict)


def read_image(path: Path) -> Frame:
    """Return an image as RGB, uint8 (H, W, 3).

    Raises:
        DataError: if it is missing or damaged; a PNG that ends early is damaged.
    """
    return decode_image(read_bytes(path), path)


def decode_image(data: bytes, path: Path) -> Frame:
    """Return the image that is the content of ``path`` as RGB, uint8 (H, W, 3); see `read_image`."""
    whole = not is_png(data) or b"IEND" in data[-16:]  # OpenCV fills up what is cut with gray
    bgr = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR) if data and whole else None
    if bgr is None:
        raise DataError(f"{path}: damaged: not a readable image, or cut")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def is_png(data: bytes) -> bool:
    """Whether the content of a file is that of a PNG."""
    return data.startswith(b"\x89PNG\r\n\x1a\n")


def image_shape(path: Path) -> tuple[int, int]:
    """Return rows and columns of an image; those of a PNG are read from its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(24)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if is_png(head) and len(head) == 24:
        width, height = struct.unpack(">II", head[16:24])  # IHDR is the first chunk
        return height, width
    shape = read_image(path).shape
    return shape[0], shape[1]
