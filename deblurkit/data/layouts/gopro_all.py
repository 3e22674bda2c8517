"""The 240 fps frames of GOPRO_Large_all, and spikes simulated from them where none were recorded.

::

    GOPRO_Large_all/{train,test}/GOPRxxxx_YY_ZZ/NNNNNN.png

Their numbers are not those of GOPRO_Large: which of them an exposure is made of is found by its sharp frame,
which is the centre one of YY and equal to it in every pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from deblurkit.data.frames import Frame
from deblurkit.data.layouts.gopro import ALL_FOLDER, SPIKES_PER_SHARP, beside
from deblurkit.data.layouts.listing import described, stems
from deblurkit.data.layouts.source import SourceSequence, read_image
from deblurkit.data.manifest import Split
from deblurkit.data.simulate import Light, SpikeSensor, gray, spike_frames
from deblurkit.data.video import VIDEO_SENSOR
from deblurkit.errors import DataError


@dataclass(frozen=True)
class SpikeSimulation:
    """How spikes are made that nobody recorded.

    Attributes:
        frames: the folder ``GOPRO_Large_all``.
        seed: of the sensor; every sequence draws its own numbers, by its name.
        sensor: its gain, threshold and noise.
    """

    frames: Path
    seed: int = 0
    sensor: SpikeSensor = VIDEO_SENSOR

    def folder(self, sequence: SourceSequence) -> Path:
        """Return where the 240 fps frames of a sequence are."""
        return self.frames / sequence.split / sequence.name

    def generator(self, split: Split, name: str) -> np.random.Generator:
        """Return the random numbers of a sequence, the same whichever others are made."""
        digest = hashlib.sha256(f"{split}/{name}".encode()).digest()
        return np.random.default_rng([self.seed, int.from_bytes(digest[:8], "big")])


def find_all_frames(root: Path, given: Path | None) -> Path:
    """Return the folder of the 240 fps frames: the one given, the one in it, or the one beside GOPRO_Large.

    Raises:
        DataError: if there is none.
    """
    places = beside(root, ALL_FOLDER) if given is None else [given / ALL_FOLDER, given]
    for place in places:
        if (place / "train").is_dir() or (place / "test").is_dir():
            return place
    where = root if given is None else given
    raise DataError(
        f"{where}: no {ALL_FOLDER}/{{train,test}} found, whose frames spikes are simulated from; found "
        f"{described(where)}; name it with --all DIR"
    )


def simulated_spikes(sequence: SourceSequence, simulation: SpikeSimulation) -> Iterator[Frame]:
    """Yield the spikes of each exposure, uint8 (T, h, w); the sensor runs through from the first to the last.

    Args:
        sequence: of GOPRO_Large.
        simulation: of which frames, and how.

    Raises:
        DataError: if frames are missing, or do not step by the number that a blurry one is made of.
    """
    frames = sequence.sharp_frames
    assert frames is not None, "GOPRO_Large's names tell it"
    shape = (sequence.geometry.width, sequence.geometry.height)

    def light() -> Iterator[Light]:
        for frame in _exposed_frames(sequence, simulation.folder(sequence), frames):
            resized = cv2.resize(gray(frame), shape, interpolation=cv2.INTER_AREA)
            yield np.asarray(resized, dtype=np.float32)

    rng = simulation.generator(sequence.split, sequence.name)
    stream = spike_frames(light(), rng, simulation.sensor, frames_between=SPIKES_PER_SHARP)
    whole = SPIKES_PER_SHARP * frames
    lead = (whole - sequence.spike_frames) // 2
    for _ in sequence.exposures:
        yield np.stack(list(islice(stream, whole))[lead : lead + sequence.spike_frames])


def _exposed_frames(sequence: SourceSequence, folder: Path, per_exposure: int) -> Iterator[Frame]:
    """Yield the 240 fps frames of all exposures, comparing the centre one of each with its sharp frame."""
    files = [folder / f"{stem}.png" for stem in stems(folder, ".png")]
    if not files:
        raise DataError(f"{folder}: no frames to simulate the spikes of {sequence.name} from")
    first = _first_centre(sequence, files, per_exposure) - per_exposure // 2
    last = first + per_exposure * sequence.num_frames
    if first < 0 or last > len(files):
        raise DataError(
            f"{folder}: {len(files)} frames, but the exposures of {sequence.name} need {first} to {last}"
        )
    for index in range(sequence.num_frames):
        start = first + index * per_exposure
        for offset, file in enumerate(files[start : start + per_exposure]):
            frame = read_image(file)
            if offset == per_exposure // 2 and not np.array_equal(frame, sequence.read_sharp(index)):
                raise DataError(
                    f"{sequence.exposures[index].sharp}: differs from {file}, {index * per_exposure} frames "
                    "after the sequence's first: frames are missing, so no spikes can be simulated"
                )
            yield frame


def _first_centre(sequence: SourceSequence, files: list[Path], per_exposure: int) -> int:
    """Return which of the files is the first sharp frame; where frames repeat, the one that others follow."""
    sharp = sequence.read_sharp(0)
    following = sequence.read_sharp(1) if sequence.num_frames > 1 else None
    usual = per_exposure // 2
    equal = []
    for index in sorted(range(len(files)), key=lambda index: index != usual):
        if not np.array_equal(read_image(files[index]), sharp):
            continue
        after = index + per_exposure
        if following is None or (after < len(files) and np.array_equal(read_image(files[after]), following)):
            return index
        equal.append(index)
    if equal:
        return equal[0]  # the comparison of every exposure says what is wrong
    raise DataError(
        f"{sequence.exposures[0].sharp}: none of the {len(files)} frames in {files[0].parent} is equal to it"
    )
