"""``deblurkit prepare-data``: makes datasets in the layout that the other commands read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deblurkit.cli.options import Json
from deblurkit.errors import UsageError

if TYPE_CHECKING:
    from deblurkit.data.unified import UnifiedDataset

BlurVariant = Literal["blur", "blur_gamma"]
ForeignLayout = Literal["auto", "gopro", "spike-gopro", "triples"]

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


@app.command("gopro")
def gopro(
    root: Annotated[
        Path, typer.Argument(help="GOPRO_Large, the folder that holds it, or another layout's folder.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The dataset's folder; must not exist or be empty.")
    ],
    layout: Annotated[ForeignLayout, typer.Option(help="How the files lie; found out by default.")] = "auto",
    blur_variant: Annotated[
        BlurVariant, typer.Option(help="Which blurry frames to take, or how the only ones were made.")
    ] = "blur",
    spikes: Annotated[
        Path | None, typer.Option(help="Folder of GOPRO_Large's spikes; looked for beside it by default.")
    ] = None,
    central_spikes: Annotated[
        int | None, typer.Option(min=1, help="Take this many from the middle of an exposure, such as 56.")
    ] = None,
    spike_shift: Annotated[
        int, typer.Option(help="Spike frames recorded before the first exposure; negative if missing.")
    ] = 0,
    simulate_spikes: Annotated[
        bool, typer.Option("--simulate-spikes", help="Simulate the spikes of sequences that have none.")
    ] = False,
    all_frames: Annotated[
        Path | None, typer.Option("--all", help="GOPRO_Large_all, to simulate from; looked for by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated spike sensor.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; as many as there are CPUs by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert GOPRO_Large with spikes, Spike-GOPRO or triples; the same command goes on after a break."""
    from deblurkit.data.convert import convert
    from deblurkit.data.layouts.detect import read_convertible
    from deblurkit.data.layouts.gopro_all import SpikeSimulation, find_all_frames
    from deblurkit.render.bar import progress_bar

    if all_frames is not None and not simulate_spikes:
        raise UsageError("--all names frames to simulate spikes from; add --simulate-spikes")
    options = {
        "spikes": spikes,
        "central_spikes": central_spikes,
        "spike_shift": spike_shift or None,
        "require_spikes": False if simulate_spikes else None,
    }
    source = read_convertible(
        root,
        layout=None if layout == "auto" else layout,
        blur_variant=blur_variant,
        gopro_options={name: value for name, value in options.items() if value is not None},
    )
    simulation = SpikeSimulation(find_all_frames(root, all_frames), seed) if simulate_spikes else None
    with progress_bar("frames") as progress:
        dataset = convert(
            source, output, simulation=simulation, workers=workers, progress=progress, say=_remark
        )
    _show(dataset, as_json=as_json)


def _remark(text: str) -> None:
    typer.echo(f"deblurkit: {text}", err=True)


def _show(dataset: UnifiedDataset, *, as_json: bool) -> None:
    from dataclasses import asdict

    from deblurkit.data.unified import summarise
    from deblurkit.render.dataset import dataset_as_text

    summary = summarise(dataset)
    typer.echo(json.dumps(asdict(summary), indent=2) if as_json else dataset_as_text(summary))
