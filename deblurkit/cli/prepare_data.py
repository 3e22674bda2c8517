"""``deblurkit prepare-data``: makes datasets in the layout that the other commands read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deblurkit.cli.options import Json

if TYPE_CHECKING:
    from deblurkit.data.unified import UnifiedDataset

BlurVariant = Literal["blur", "blur_gamma"]

app = typer.Typer(help="Make datasets of blurry frames, sharp frames and spikes.", no_args_is_help=True)


@app.command("synthetic")
def synthetic(
    root: Annotated[Path, typer.Argument(help="The dataset's folder; must not exist or be empty.")],
    seed: Annotated[int, typer.Option(min=0, help="Decides every scene; same seed, same files.")] = 0,
    train_sequences: Annotated[int, typer.Option(min=0, help="Sequences for training.")] = 8,
    test_sequences: Annotated[int, typer.Option(min=0, help="Sequences for testing.")] = 2,
    frames: Annotated[int, typer.Option(min=1, help="Blurry frames in each sequence.")] = 8,
    height: Annotated[int, typer.Option(help="Rows of a frame, a multiple of 16.")] = 96,
    width: Annotated[int, typer.Option(help="Columns of a frame, a multiple of 16.")] = 128,
    as_json: Json = False,
) -> None:
    """Draw a small dataset from a seed: moving textured scenes, their blur and simulated spikes."""
    from deblurkit.data.synthetic import make_synthetic
    from deblurkit.render.bar import progress_bar

    with progress_bar("frames") as progress:
        dataset = make_synthetic(
            root,
            seed=seed,
            num_train=train_sequences,
            num_test=test_sequences,
            frames_per_sequence=frames,
            size=(height, width),
            progress=progress,
        )
    _show(dataset, as_json=as_json)


@app.command("video")
def video(
    files: Annotated[
        list[Path], typer.Argument(help="Sharp videos; the higher their frame rate the better.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The dataset's folder; must not exist or be empty.")
    ],
    exposure_frames: Annotated[int, typer.Option(help="Sharp frames averaged into a blurry one; odd.")] = 7,
    spikes_per_frame: Annotated[int, typer.Option(min=1, help="Spike frames for each sharp frame.")] = 8,
    height: Annotated[
        int | None, typer.Option(min=16, help="Rows to resize to; as they are by default.")
    ] = None,
    max_frames: Annotated[int, typer.Option(min=1, help="Blurry frames in one sequence at most.")] = 100,
    test_share: Annotated[
        float, typer.Option(help="Share of files, or of one file's time, for testing.")
    ] = 0.2,
    blur_variant: Annotated[
        BlurVariant, typer.Option(help="Plain mean, or a mean of linear light.")
    ] = "blur",
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated spike sensor.")] = 0,
    as_json: Json = False,
) -> None:
    """Average sharp video into blurry frames and simulate the spikes that a sensor would have given."""
    from deblurkit.data.video import make_from_videos
    from deblurkit.render.bar import progress_bar

    with progress_bar("frames") as progress:
        dataset = make_from_videos(
            output,
            files,
            exposure_frames=exposure_frames,
            spikes_per_frame=spikes_per_frame,
            height=height,
            max_frames=max_frames,
            test_share=test_share,
            blur_variant=blur_variant,
            seed=seed,
            progress=progress,
        )
    _show(dataset, as_json=as_json)


@app.command("pack")
def pack(
    root: Annotated[Path, typer.Argument(help="A prepared dataset of PNGs.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The packed dataset's folder; must not exist or be empty.")
    ],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that decode; one for each CPU by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Decode every frame once: crops are then read straight from memory that all processes share."""
    from deblurkit.data.packed import pack_dataset
    from deblurkit.data.unified import open_dataset
    from deblurkit.data.workers import available_cpus
    from deblurkit.render.bar import progress_bar

    with progress_bar("frames") as progress:
        source = open_dataset(root)
        dataset = pack_dataset(source, output, workers=workers or available_cpus(), progress=progress)
    _show(dataset, as_json=as_json)


@app.command("voxels")
def voxels(
    root: Annotated[Path, typer.Argument(help="A prepared dataset; the voxels are written into its folder.")],
    bins: Annotated[int, typer.Option(min=1, help="NUM_VOXEL_BINS of the runs that will read them.")] = 32,
    as_json: Json = False,
) -> None:
    """Gather the spikes of every exposure into voxels, for DATA.USE_PRECOMPUTED_VOXELS."""
    from deblurkit.data.unified import open_dataset
    from deblurkit.data.voxel_store import make_voxels
    from deblurkit.render.bar import progress_bar
    from deblurkit.units import format_bytes

    with progress_bar("frames") as progress:
        folder = make_voxels(open_dataset(root), bins, progress=progress)
    size = sum(path.stat().st_size for path in folder.rglob("*.npy"))
    result = {"folder": str(folder), "bins": bins, "bytes": size}
    text = f"{folder}: {format_bytes(size)}; train with DATA.USE_PRECOMPUTED_VOXELS=true"
    typer.echo(json.dumps(result, indent=2) if as_json else text)


def _show(dataset: UnifiedDataset, *, as_json: bool) -> None:
    from dataclasses import asdict

    from deblurkit.data.unified import summarise
    from deblurkit.render.dataset import dataset_as_text

    summary = summarise(dataset)
    typer.echo(json.dumps(asdict(summary), indent=2) if as_json else dataset_as_text(summary))
