"""Our own layout, read in the way that the others are."""

from __future__ import annotations

from pathlib import Path

from deblurkit.data.layouts.source import SourceDataset, SourceExposure, SourceSequence
from deblurkit.data.manifest import MANIFEST, Manifest, SequenceRecord, read_manifest
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.errors import DataError

LOOKS_FOR = MANIFEST


def fits(root: Path) -> bool:
    """Whether a folder holds a manifest."""
    return (root / MANIFEST).is_file()


def read_unified(root: Path) -> SourceDataset:
    """Return a dataset of ours as its manifest describes it; the files are not looked at.

    Raises:
        DataError: if the manifest cannot be read, or its frames are packed.
    """
    manifest = read_manifest(root / MANIFEST)
    if manifest.storage != "png":
        raise DataError(
            f"{root}: its frames are packed, and only PNGs are read one by one; name the dataset "
            "that it was packed from"
        )
    return SourceDataset(
        layout="unified",
        root=root,
        sequences=tuple(_sequence(root, record, manifest) for record in manifest.sequences),
        blur_variant=manifest.blur_variant,
        spike_margin=manifest.spike_margin,
        spikes_per_sharp_frame=manifest.spikes_per_sharp_frame,
    )


def _sequence(root: Path, record: SequenceRecord, manifest: Manifest) -> SourceSequence:
    folder = root / record.folder
    geometry = SpikeGeometry(*manifest.spike_shape)
    listed = manifest.files.get(f"{record.folder}/spikes.dat")
    return SourceSequence(
        split=record.split,
        name=record.name,
        exposures=tuple(
            SourceExposure(
                stem=stem,
                blurry=folder / "blur" / f"{stem}.png",
                sharp=folder / "sharp" / f"{stem}.png",
                spikes=folder / "spikes.dat",
                first_spike=start,
            )
            for stem, start in zip(record.stems, record.spike_starts, strict=True)
        ),
        spike_frames=record.spike_frames_per_exposure,
        sharp_frames=record.sharp_frames_per_exposure,
        geometry=geometry,
        recording_frames=None if listed is None else listed.bytes // geometry.frame_bytes,
    )
