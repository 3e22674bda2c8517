"""GOPRO_Large with the spikes of Spk-GoPro, which lie beside it by the sequence or by the frame.

::

    GOPRO_Large/{train,test}/GOPRxxxx_YY_ZZ/{blur,blur_gamma,sharp}/NNNNNN.png
    Spike_GOPRO_Large_all/{train,test}/GOPRxxxx_YY_ZZ/spike.dat
    GOPRO_Large_spike_seq/{train,test}/GOPRxxxx_YY_ZZ/spike/NNNNNN.dat

YY sharp frames of 240 a second make a blurry one, and 8 spike frames a sharp one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deblurkit.data.layouts.geometry import geometry_by_count
from deblurkit.data.layouts.listing import described, merged, split_sequences, stems
from deblurkit.data.layouts.source import SourceDataset, SourceExposure, SourceSequence, image_shape
from deblurkit.data.manifest import Split
from deblurkit.data.simulate import BlurVariant
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.errors import DataError

LOOKS_FOR = "{train,test}/GOPRxxxx_YY_ZZ/{blur,sharp}/*.png, in it or in GOPRO_Large"
SPIKES_PER_SHARP = 8
FRAMES_FOLDER, ALL_FOLDER = "GOPRO_Large", "GOPRO_Large_all"
SPIKE_FOLDERS = ("Spike_GOPRO_Large_all", "GOPRO_Large_spike_seq")
_NAME = re.compile(r"G[A-Z]+[0-9]+_([0-9]{2})_[0-9]{2}")  # GOPR0372_07_00
_SPIKE_DIVISOR = 2


@dataclass(frozen=True)
class _Pairs:
    """The frames of one sequence."""

    split: Split
    folder: Path
    stems: list[str]
    sharp_frames: int

    @property
    def spike_frames(self) -> int:
        return SPIKES_PER_SHARP * self.sharp_frames

    @property
    def positions(self) -> list[int]:
        """How many exposures lie before each frame; a number left out of the stems is an exposure too."""
        if not all(stem.isdecimal() for stem in self.stems):
            return list(range(len(self.stems)))
        numbers = [int(stem) - int(self.stems[0]) for stem in self.stems]
        step = math.gcd(*numbers) or 1
        return [number // step for number in numbers]


@dataclass(frozen=True)
class _Spikes:
    """Where the recordings are."""

    folder: Path
    by: Literal["sequence", "frame"]

    def recording(self, pairs: _Pairs, stem: str) -> Path:
        folder = self.folder / pairs.split / pairs.folder.name
        return folder / "spike.dat" if self.by == "sequence" else folder / "spike" / f"{stem}.dat"


def fits(root: Path) -> bool:
    """Whether sequences of GOPRO_Large lie in a folder."""
    return any(
        _NAME.fullmatch(folder.name) and (folder / "sharp").is_dir() and _has_blurry(folder)
        for _, folder in split_sequences(frames_folder(root))
    )


def read_gopro(
    root: Path,
    *,
    blur_variant: BlurVariant = "blur",
    spikes: Path | None = None,
    central_spikes: int | None = None,
    spike_shift: int = 0,
    require_spikes: bool = True,
) -> SourceDataset:
    """Return GOPRO_Large and its spikes as they lie on the disk; nothing is decoded.

    Args:
        root: GOPRO_Large, or the folder that holds it and the spikes.
        blur_variant: which of the two folders of blurry frames.
        spikes: the folder of the recordings, or of their archive; looked for beside the frames by default.
        central_spikes: spike frames to take from the middle of every exposure; all of them by default.
        spike_shift: spike frames that the recordings begin before the first exposure (or after, if negative).
            Exposures that a sequence's recording then no longer reaches are left out.
        require_spikes: off where they will be simulated, so that there need not be any.

    Raises:
        DataError: if frames or spikes are not found, or are found in more than one place.
    """
    frames = frames_folder(root)
    sequences = [_pairs(split, folder, blur_variant) for split, folder in split_sequences(frames)]
    sequences = [pairs for pairs in sequences if pairs.stems]
    if not any((pairs.folder / blur_variant).is_dir() for pairs in sequences):
        raise DataError(f"{frames}: no sequence has a folder {blur_variant!r} with frames")
    found = _find_spikes(root, frames, spikes, required=require_spikes)
    geometry = _geometry(sequences, found, blur_variant)
    return SourceDataset(
        layout="gopro",
        root=root,
        sequences=tuple(
            _sequence(
                pairs,
                found,
                geometry,
                blurry=blur_variant,
                central=central_spikes,
                shift=spike_shift,
            )
            for pairs in sequences
        ),
        blur_variant=blur_variant,
        spikes_per_sharp_frame=SPIKES_PER_SHARP,
        options={
            "spikes": found.folder.name,
            "spikes_by": found.by,
            "central_spikes": central_spikes,
            "spike_shift": spike_shift,
        },
    )


def frames_folder(root: Path) -> Path:
    """Return GOPRO_Large, where the folder given is the one that holds it."""
    return root / FRAMES_FOLDER if (root / FRAMES_FOLDER).is_dir() else root


def beside(root: Path, name: str) -> list[Path]:
    """Return the folders of a name that lie in the folder given or beside GOPRO_Large."""
    frames = frames_folder(root)
    places = dict.fromkeys(folder.absolute() / name for folder in (root, frames, frames.absolute().parent))
    return [place for place in places if place.is_dir()]


def _has_blurry(folder: Path) -> bool:
    return (folder / "blur").is_dir() or (folder / "blur_gamma").is_dir()


def _pairs(split: Split, folder: Path, blurry: str) -> _Pairs:
    match = _NAME.fullmatch(folder.name)
    if match is None or int(match[1]) < 1:
        raise DataError(
            f"{folder}: a name like GOPR0372_07_00 expected, whose second number says how many sharp frames "
            "make a blurry one"
        )
    names = merged(stems(folder / blurry, ".png"), stems(folder / "sharp", ".png"))
    return _Pairs(split=split, folder=folder, stems=names, sharp_frames=int(match[1]))


def _find_spikes(root: Path, frames: Path, given: Path | None, *, required: bool) -> _Spikes:
    """Return the one place where recordings are; where none are needed, the place where they would be."""
    if given is not None:
        places = [given, *(given / name for name in SPIKE_FOLDERS)]
    else:
        places = [*(place for name in SPIKE_FOLDERS for place in beside(root, name)), frames]
    found = [spikes for place in places for spikes in _recordings_in(place)]
    if len(found) > 1:
        names = " and ".join(f"{spikes.folder} (by the {spikes.by})" for spikes in found)
        raise DataError(f"{root}: spikes in more than one place: {names}; say which with --spikes DIR")
    if not found and (required or given is not None):
        where = given or frames.absolute().parent
        raise DataError(
            f"{where}: no spikes found: {' or '.join(SPIKE_FOLDERS)} with <split>/<sequence>/spike.dat or "
            f"spike/*.dat expected, found {described(where)}; name them with --spikes DIR, or have them made "
            "with --simulate-spikes"
        )
    return found[0] if found else _Spikes(frames.absolute().parent / SPIKE_FOLDERS[0], "sequence")


def _recordings_in(folder: Path) -> list[_Spikes]:
    sequences = [sequence for _, sequence in split_sequences(folder)]
    found = []
    if any((sequence / "spike.dat").is_file() for sequence in sequences):
        found.append(_Spikes(folder, "sequence"))
    if any(stems(sequence / "spike", ".dat") for sequence in sequences):
        found.append(_Spikes(folder, "frame"))
    return found


def _geometry(sequences: list[_Pairs], found: _Spikes, blurry: str) -> SpikeGeometry:
    images = (
        pairs.folder / kind / f"{stem}.png"
        for pairs in sequences
        for kind in ("sharp", blurry)
        for stem in pairs.stems
    )
    paths = list(images)
    first = next((image for image in paths if image.is_file()), None)
    if first is None:
        raise DataError(f"{paths[0]}: expected a picture, found none here or elsewhere in the dataset")
    expected = [
        (found.recording(pairs, stem), pairs.spike_frames * (1 if found.by == "frame" else len(pairs.stems)))
        for pairs in sequences
        for stem in (pairs.stems if found.by == "frame" else pairs.stems[:1])
    ]
    return geometry_by_count(expected, image_shape(first), usual_divisor=_SPIKE_DIVISOR)


def _sequence(
    pairs: _Pairs,
    found: _Spikes,
    geometry: SpikeGeometry,
    *,
    blurry: str,
    central: int | None,
    shift: int,
) -> SourceSequence:
    frames = pairs.spike_frames if central is None else central
    if frames > pairs.spike_frames:
        raise DataError(
            f"{pairs.folder}: its exposures have {pairs.spike_frames} spike frames, not {frames} to take"
        )
    held = _held_by_frame(pairs, found, geometry, central) if found.by == "frame" else None
    lead = ((pairs.spike_frames if held is None else held) - frames) // 2 + shift
    starts = [0 if held is not None else position * pairs.spike_frames for position in pairs.positions]
    exposures: Iterable[SourceExposure] = (
        SourceExposure(
            stem=stem,
            blurry=pairs.folder / blurry / f"{stem}.png",
            sharp=pairs.folder / "sharp" / f"{stem}.png",
            spikes=found.recording(pairs, stem),
            first_spike=start + lead,
        )
        for stem, start in zip(pairs.stems, starts, strict=True)
    )
    if found.by == "sequence" and shift:
        exposures = _reached(exposures, geometry, frames=frames, shift=shift)
    return SourceSequence(
        split=pairs.split,
        name=pairs.folder.name,
        exposures=tuple(exposures),
        spike_frames=frames,
        sharp_frames=pairs.sharp_frames,
        geometry=geometry,
        recording_frames=held,
    )


def _reached(
    exposures: Iterable[SourceExposure], geometry: SpikeGeometry, *, frames: int, shift: int
) -> Iterator[SourceExposure]:
    """Yield the exposures but those that only the shift has moved beyond an end of their recording."""
    for exposure in exposures:
        stop = exposure.first_spike + frames
        path = exposure.spikes
        held = path.stat().st_size // geometry.frame_bytes if path.is_file() else stop
        if exposure.first_spike >= 0 and not stop - shift <= held < stop:
            yield exposure


def _held_by_frame(pairs: _Pairs, found: _Spikes, geometry: SpikeGeometry, central: int | None) -> int:
    """Return the spike frames of a recording of one exposure: all, or what others kept of the middle."""
    files = [path for stem in pairs.stems[:5] if (path := found.recording(pairs, stem)).is_file()]
    kept = sum(path.stat().st_size == (central or 0) * geometry.frame_bytes for path in files)
    return central if central is not None and 2 * kept > len(files) else pairs.spike_frames
