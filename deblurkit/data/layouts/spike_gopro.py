"""Spike-GOPRO as S-SDM uses it: a folder for each kind of file, and spikes beyond both ends of an exposure.

::

    {train,test}/{blur_data,sharp_data,spike_data}/<sequence>/NNNNNN.{png,png,dat}

A recording holds 20 spike frames before the exposure, 97 during it and 20 after. A sequence's first and last
frame have none, as the frames around them are missing.
"""

from __future__ import annotations

from pathlib import Path

from deblurkit.data.layouts.geometry import geometry_by_count
from deblurkit.data.layouts.listing import SPLITS, merged, stems, subfolders
from deblurkit.data.layouts.source import SourceDataset, SourceExposure, SourceSequence, image_shape
from deblurkit.data.manifest import Split
from deblurkit.data.simulate import BlurVariant
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.errors import DataError

LOOKS_FOR = "{train,test}/{blur_data,sharp_data,spike_data}/<sequence>/*"
BLURRY, SHARP, SPIKES = "blur_data", "sharp_data", "spike_data"
EXPOSURE_FRAMES, MARGIN = 97, 20
RECORDING_FRAMES = EXPOSURE_FRAMES + 2 * MARGIN
_SPIKE_DIVISOR = 4


def fits(root: Path) -> bool:
    """Whether a split has the three folders."""
    return any(all((root / split / kind).is_dir() for kind in (BLURRY, SHARP, SPIKES)) for split in SPLITS)


def read_spike_gopro(root: Path, *, blur_variant: BlurVariant = "blur") -> SourceDataset:
    """Return Spike-GOPRO as it lies on the disk; nothing is decoded.

    Args:
        root: the folder that holds ``train`` and ``test``.
        blur_variant: how its blurry frames were made; the layout does not say.

    Raises:
        DataError: if there is no frame, or the recordings' sizes fit the frames in no way.
    """
    exposures = {
        (split, name): _exposures(root / split, name)
        for split in SPLITS
        for name in merged(*([f.name for f in subfolders(root / split / kind)] for kind in (BLURRY, SHARP)))
    }
    every = [exposure for sequence in exposures.values() for exposure in sequence]
    first = next((path for e in every for path in (e.sharp, e.blurry) if path.is_file()), None)
    if first is None:
        raise DataError(f"{root}: no sequence has three frames or more in {BLURRY} and {SHARP}")
    geometry = geometry_by_count(
        [(exposure.spikes, RECORDING_FRAMES) for exposure in every],
        image_shape(first),
        usual_divisor=_SPIKE_DIVISOR,
    )
    return SourceDataset(
        layout="spike-gopro",
        root=root,
        sequences=tuple(_sequence(*key, found, geometry) for key, found in exposures.items()),
        blur_variant=blur_variant,
        spike_margin=MARGIN,
    )


def _exposures(split: Path, name: str) -> tuple[SourceExposure, ...]:
    """Return the frames of a sequence but those at its ends, unless these have spikes."""
    found = merged(stems(split / BLURRY / name, ".png"), stems(split / SHARP / name, ".png"))
    exposures = [
        SourceExposure(
            stem=stem,
            blurry=split / BLURRY / name / f"{stem}.png",
            sharp=split / SHARP / name / f"{stem}.png",
            spikes=split / SPIKES / name / f"{stem}.dat",
            first_spike=MARGIN,
        )
        for stem in found
    ]
    ends = (0, len(exposures) - 1)
    return tuple(e for index, e in enumerate(exposures) if index not in ends or e.spikes.is_file())


def _sequence(
    split: Split, name: str, exposures: tuple[SourceExposure, ...], geometry: SpikeGeometry
) -> SourceSequence:
    return SourceSequence(
        split=split,
        name=name,
        exposures=exposures,
        spike_frames=EXPOSURE_FRAMES,
        sharp_frames=None,
        geometry=geometry,
        recording_frames=RECORDING_FRAMES,
    )
