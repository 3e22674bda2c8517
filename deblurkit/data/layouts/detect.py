"""Which layout a folder has; where none or several fit, an answer that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deblurkit.data.layouts import gopro, recordings, spike_gopro, triples, unified_layout
from deblurkit.data.layouts.listing import SPLITS, described
from deblurkit.data.layouts.recordings import RecordingFolder
from deblurkit.data.layouts.source import SourceDataset
from deblurkit.data.simulate import BlurVariant
from deblurkit.errors import DataError, UsageError


@dataclass(frozen=True)
class Layout:
    """A way in which datasets lie on a disk.

    Attributes:
        name: as options and reports spell it.
        looks_for: the folders and files that make it known.
        fits: whether they are in a folder.
        read: reads a folder; takes the options of the layout's own function.
    """

    name: str
    looks_for: str
    fits: Callable[[Path], bool]
    read: Callable[..., SourceDataset | RecordingFolder]


UNIFIED = Layout("unified", unified_layout.LOOKS_FOR, unified_layout.fits, unified_layout.read_unified)
RECORDINGS = Layout("recordings", recordings.LOOKS_FOR, recordings.fits, recordings.read_recordings)
LAYOUTS = (
    UNIFIED,
    Layout("gopro", gopro.LOOKS_FOR, gopro.fits, gopro.read_gopro),
    Layout("spike-gopro", spike_gopro.LOOKS_FOR, spike_gopro.fits, spike_gopro.read_spike_gopro),
    Layout("triples", triples.LOOKS_FOR, triples.fits, triples.read_triples),
    RECORDINGS,
)


def layout_named(name: str) -> Layout:
    """Return the layout of a name; a ValueError where there is none."""
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise ValueError(f"layouts are {', '.join(layout.name for layout in LAYOUTS)}; not {name!r}")


def detect_layout(root: Path | str) -> Layout:
    """Return the one layout that a folder has; a manifest of ours decides at once.

    Raises:
        DataError: if none fits, saying what was looked for and what is there, or if several do.
    """
    root = Path(root)
    _check_folder(root)
    if UNIFIED.fits(root):
        return UNIFIED
    fitting = [layout for layout in LAYOUTS if layout.fits(root)]
    if not fitting:
        wanted = "; ".join(f"{layout.name}: {layout.looks_for}" for layout in LAYOUTS)
        raise DataError(f"{root}: no known layout. Looked for {wanted}. Found {_contents(root)}")
    if len(fitting) > 1:
        names = " and ".join(f"{layout.name} ({layout.looks_for})" for layout in fitting)
        raise DataError(f"{root}: fits more than one layout: {names}; say which with --layout")
    return fitting[0]


def read_convertible(
    root: Path | str,
    *,
    layout: str | None = None,
    blur_variant: BlurVariant = "blur",
    gopro_options: dict[str, Any] | None = None,
) -> SourceDataset:
    """Return a dataset in a layout that is not ours.

    Args:
        root: its folder.
        layout: its name; detected by default.
        blur_variant: which blurry frames to take, or what they are where there is one kind.
        gopro_options: of `read_gopro`, further ones.

    Raises:
        DataError: if the layout is not known, in doubt, or none that can be converted.
        UsageError: if options of GOPRO_Large are given for another layout.
    """
    root = Path(root)
    _check_folder(root)
    found = detect_layout(root) if layout is None else layout_named(layout)
    if found is UNIFIED:
        raise DataError(f"{root}: is a deblurkit dataset already, ready for training")
    if gopro_options and found.name != "gopro":
        raise UsageError(
            f"{root}: has the layout {found.name}; options for spikes of GOPRO_Large do not fit it"
        )
    if found is RECORDINGS:
        raise DataError(f"{root}: holds {found.name} without blurry frames, of which no dataset can be made")
    source = found.read(root, blur_variant=blur_variant, **(gopro_options or {}))
    assert isinstance(source, SourceDataset), "only recordings are read into something else"
    return source


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        raise DataError(f"{root}: {'is not a folder' if root.exists() else 'no such dataset folder'}")


def _contents(root: Path) -> str:
    """Return what lies in a folder and in its splits, for a message."""
    inside = [f"{split}: {described(root / split)}" for split in SPLITS if (root / split).is_dir()]
    return "; ".join([described(root), *inside])
