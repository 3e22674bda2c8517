"""Bare recordings with the sharp image of the moment in their middle, as the package ``spikezoo`` ships them.

::

    {train,test}/{spike,gt}/NAME.{dat,png}

There are no blurry frames, so such a folder can be checked but not trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deblurkit.data.layouts.geometry import configured_geometry, geometry_by_picture
from deblurkit.data.layouts.listing import SPLITS, merged, stems
from deblurkit.data.manifest import Split
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.errors import DataError

LOOKS_FOR = "{train,test}/{spike,gt}/NAME.{dat,png}"
SPIKES, REFERENCE = "spike", "gt"


@dataclass(frozen=True)
class Recording:
    """One recording and what its middle looks like; either file may be missing, reading says so.

    Attributes:
        split: train or test.
        path: of the spikes.
        reference: the sharp image at the centre of the recording.
        geometry: of the spikes.
    """

    split: Split
    path: Path
    reference: Path
    geometry: SpikeGeometry

    @property
    def name(self) -> str:
        """The stem that both files share."""
        return self.path.stem


@dataclass(frozen=True)
class RecordingFolder:
    """Recordings below one folder, train first, each split in the order of the names."""

    layout: str
    root: Path
    recordings: tuple[Recording, ...]


def fits(root: Path) -> bool:
    """Whether a split has both folders, with recordings in one of them."""
    return any(
        (root / split / REFERENCE).is_dir() and bool(stems(root / split / SPIKES, ".dat")) for split in SPLITS
    )


def read_recordings(root: Path) -> RecordingFolder:
    """Return the recordings in a folder; a picture is decoded only where sizes leave a doubt.

    Raises:
        DataError: if there is no recording with its image, or its frame size cannot be told.
    """
    pairs = [
        (split, root / split / SPIKES / f"{name}.dat", root / split / REFERENCE / f"{name}.png")
        for split in SPLITS
        for name in merged(stems(root / split / SPIKES, ".dat"), stems(root / split / REFERENCE, ".png"))
    ]
    geometry = configured_geometry([root, *(root / split for split in SPLITS)])
    if geometry is None:
        whole = [(path, image) for _, path, image in pairs if path.is_file() and image.is_file()]
        if not whole:
            raise DataError(f"{root}: no recording in {SPIKES} has an image of its name in {REFERENCE}")
        geometry = geometry_by_picture(whole, root=root)
    return RecordingFolder(
        layout="recordings",
        root=root,
        recordings=tuple(Recording(split, path, image, geometry) for split, path, image in pairs),
    )
