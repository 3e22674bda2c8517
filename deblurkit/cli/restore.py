"""``deblurkit restore``: restore pictures or a video that have no sharp frames to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deblurkit.cli.options import Json, warn
from deblurkit.errors import UsageError

if TYPE_CHECKING:
    from deblurkit.data.spikes import SpikeGeometry
    from deblurkit.training.tiling import Tile

TileSize = Annotated[
    str | None,
    typer.Option("--tile", help="Restore in tiles: ROWSxCOLUMNS, or FRAMESxROWSxCOLUMNS, such as 6x192x192."),
]


def restore(
    checkpoint: Annotated[Path, typer.Argument(help="A run's folder, or one of its checkpoints.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A folder of PNG or JPEG frames, a video, or a sequence of a prepared dataset.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the frames; empty or new.")],
    spikes: Annotated[
        Path | None, typer.Option("--spikes", help="The recording of the frames: .dat, .npz or .npy.")
    ] = None,
    spike_size: Annotated[
        str | None, typer.Option("--spike-size", help="ROWSxCOLUMNS of a .dat, such as 250x400.")
    ] = None,
    spikes_per_frame: Annotated[
        int | None,
        typer.Option("--spikes-per-frame", min=1, help="By default the recording, divided evenly."),
    ] = None,
    no_spikes: Annotated[
        bool, typer.Option("--no-spikes", help="Restore without spikes what was trained with them.")
    ] = False,
    tile: TileSize = None,
    overlap: Annotated[
        str | None, typer.Option("--overlap", help="Least overlap of tiles, written as --tile is.")
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option("--memory", help="Bound in GiB that the tile follows from; 4, or 80 % of a free GPU."),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where to restore.")
    ] = "auto",
    video: Annotated[
        bool, typer.Option("--video", help="Write restored.mp4 beside the frames as well.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore frames, a video or a sequence into PNGs; tiles keep the memory within a bound."""
    from deblurkit.render.bar import progress_bar
    from deblurkit.render.restoration import restoration_as_text
    from deblurkit.training import restore as restoring

    given = None
    if spikes is not None:
        given = restoring.SpikeFile(spikes, _geometry(spike_size), spikes_per_frame)
    elif spike_size is not None or spikes_per_frame is not None:
        option = "--spikes-per-frame" if spike_size is None else "--spike-size"
        raise UsageError(f"{option}: says how a recording is read; name the recording by --spikes FILE")
    with progress_bar("tiles") as progress:
        result = restoring.restore(
            checkpoint,
            source,
            output=output,
            spikes=given,
            no_spikes=no_spikes,
            tile=parsed_tile(tile),
            overlap=parsed_tile(overlap, "--overlap", unsaid=-1),
            memory_gib=memory,
            device=device,
            video=video,
            warn=warn,
            progress=progress,
        )
    typer.echo(restoring.as_json(result) if as_json else restoration_as_text(result))


def parsed_tile(text: str | None, option: str = "--tile", *, unsaid: int = 0) -> Tile | None:
    """Return ``6x192x192`` as a tile, with ``unsaid`` frames where only rows and columns are given.

    Raises:
        UsageError: if it is not of that form.
    """
    from deblurkit.training.tiling import Tile

    if text is None:
        return None
    sizes = _sizes(text)
    if len(sizes) not in (2, 3) or (option == "--tile" and 0 in sizes):
        raise _wrong(option, "ROWSxCOLUMNS or FRAMESxROWSxCOLUMNS, such as 192x192 or 6x192x192", text)
    return Tile(*((unsaid, *sizes) if len(sizes) == 2 else sizes))


def _geometry(text: str | None) -> SpikeGeometry | None:
    from deblurkit.data.spikes import SpikeGeometry

    if text is None:
        return None
    try:
        height, width = _sizes(text)
        return SpikeGeometry(height=height, width=width)
    except ValueError:
        raise _wrong("--spike-size", "ROWSxCOLUMNS, columns a multiple of 8, such as 250x400", text) from None


def _sizes(text: str) -> list[int]:
    parts = text.lower().split("x")
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else []


def _wrong(option: str, expected: str, text: str) -> UsageError:
    return UsageError(f"{option}: expected {expected}, got {text!r}")
