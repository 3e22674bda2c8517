"""Triples: a blurry frame, a sharp one and a recording under one name, as X4K-style sets come.

::

    {train,test}/<sequence>/{blur,sharp,spike}/NAME.{png,png,dat}

A recording is what was seen during the exposure, however long that was; its frame size is in a
``config.yaml`` (``spike_h``, ``spike_w``) or follows from the frames'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from deblurkit.data.layouts.geometry import configured_geometry, geometry_by_picture
from deblurkit.data.layouts.listing import SPLITS, merged, split_sequences, stems
from deblurkit.data.layouts.source import SourceDataset, SourceExposure, SourceSequence
from deblurkit.data.manifest import Split
from deblurkit.data.simulate import BlurVariant
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.errors import DataError

LOOKS_FOR = "{train,test}/<sequence>/{blur,sharp,spike}/*"
_KINDS = {"blur": ".png", "sharp": ".png", "spike": ".dat"}


def fits(root: Path) -> bool:
    """Whether a sequence has the three folders."""
    return any(all((folder / kind).is_dir() for kind in _KINDS) for _, folder in split_sequences(root))


def read_triples(root: Path, *, blur_variant: BlurVariant = "blur") -> SourceDataset:
    """Return triples as they lie on the disk; a picture is decoded only where sizes leave a doubt.

    Args:
        root: the folder that holds ``train`` and ``test``.
        blur_variant: how the blurry frames were made; the layout does not say.

    Raises:
        DataError: if there is no recording, or its frame size cannot be told.
    """
    found = [(split, folder, _exposures(folder)) for split, folder in split_sequences(root)]
    found = [(split, folder, exposures) for split, folder, exposures in found if exposures]
    every = [exposure for _, _, exposures in found for exposure in exposures]
    geometry = _geometry(root, every)
    usual = _usual_frames(every, geometry)
    return SourceDataset(
        layout="triples",
        root=root,
        sequences=tuple(_sequence(*one, geometry, otherwise=usual) for one in found),
        blur_variant=blur_variant,
    )


def _exposures(folder: Path) -> tuple[SourceExposure, ...]:
    names = merged(*(stems(folder / kind, suffix) for kind, suffix in _KINDS.items()))
    return tuple(
        SourceExposure(
            stem=stem,
            blurry=folder / "blur" / f"{stem}.png",
            sharp=folder / "sharp" / f"{stem}.png",
            spikes=folder / "spike" / f"{stem}.dat",
            first_spike=0,
        )
        for stem in names
    )


def _geometry(root: Path, exposures: list[SourceExposure]) -> SpikeGeometry:
    sequences = (folder for _, folder in split_sequences(root))
    places = [root, *(root / split for split in SPLITS), *(f for s in sequences for f in (s, s / "spike"))]
    configured = configured_geometry(places)
    if configured is not None:
        return configured
    whole = [e for e in exposures if e.spikes.is_file() and e.blurry.is_file()]
    if not whole:
        raise DataError(f"{root}: no frame has both a blurry image and a recording")
    return geometry_by_picture([(exposure.spikes, exposure.blurry) for exposure in whole], root=root)


def _sequence(
    split: Split,
    folder: Path,
    exposures: tuple[SourceExposure, ...],
    geometry: SpikeGeometry,
    *,
    otherwise: int | None,
) -> SourceSequence:
    frames = _usual_frames(exposures, geometry) or otherwise
    if frames is None:
        raise DataError(
            f"{folder}: no recording is a whole number of {geometry} spike frames "
            f"({geometry.frame_bytes} bytes each)"
        )
    return SourceSequence(
        split=split,
        name=folder.name,
        exposures=exposures,
        spike_frames=frames,
        sharp_frames=None,
        geometry=geometry,
        recording_frames=frames,
    )


def _usual_frames(exposures: Iterable[SourceExposure], geometry: SpikeGeometry) -> int | None:
    """Return how many spike frames most recordings hold; None where none is whole."""
    sizes = [exposure.spikes.stat().st_size for exposure in exposures if exposure.spikes.is_file()]
    counts = Counter(size // geometry.frame_bytes for size in sizes if size % geometry.frame_bytes == 0)
    counts.pop(0, None)
    return counts.most_common(1)[0][0] if counts else None
