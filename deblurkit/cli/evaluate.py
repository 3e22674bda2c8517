"""``deblurkit evaluate``: score a trained network on held-out sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from deblurkit.cli.options import Json, warn
from deblurkit.cli.restore import TileSize, parsed_tile


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A run's folder, or one of its checkpoints.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Another dataset than the run was trained on.")
    ] = None,
    split: Annotated[
        Literal["train", "test"] | None, typer.Option("--split", help="By default the run's VAL_SPLIT.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where to restore.")
    ] = "auto",
    ablate_spikes: Annotated[
        bool,
        typer.Option("--ablate-spikes", help="Score it again with spikes all zero, and shuffled in time."),
    ] = False,
    protocol: Annotated[
        Literal["vrt", "y", "pooled"] | None,
        typer.Option("--protocol", help="How to score; the run's TEST.PROTOCOL, vrt, by default."),
    ] = None,
    lpips: Annotated[
        Literal["alex", "vgg"] | None, typer.Option("--lpips", help="Measure LPIPS, on this network.")
    ] = None,
    lpips_weights: Annotated[
        Path | None, typer.Option("--lpips-weights", help="Its ImageNet weights; by default torch's cache.")
    ] = None,
    tile: TileSize = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Score TEST.QUICK_SEQUENCES evenly spaced sequences only.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Save a frame blurry, restored and sharp as PNG.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a network: PSNR and SSIM of what it restores against the blurry input."""
    import contextlib
    import json

    from deblurkit.files import check_writable, write_image
    from deblurkit.render.bar import progress_bar
    from deblurkit.render.picture import before_and_after
    from deblurkit.render.scores import evaluation_as_dict, evaluation_as_text
    from deblurkit.training.distributed import ranks_of_environment
    from deblurkit.training.evaluate import evaluate_checkpoint

    is_main = ranks_of_environment().is_main
    if picture is not None and is_main:
        check_writable(picture)
    with progress_bar("frames") if is_main else contextlib.nullcontext() as progress:
        evaluation = evaluate_checkpoint(
            checkpoint,
            data=data,
            split=split,
            device=device,
            warn=warn if is_main else _unsaid,
            ablate_spikes=ablate_spikes,
            protocol=protocol,
            lpips=lpips,
            lpips_weights=lpips_weights,
            tile=parsed_tile(tile),
            quick=quick,
            progress=progress,
        )
    if not is_main:
        return
    if picture is not None:
        write_image(picture, before_and_after(evaluation.results["restored"].example))
    if as_json:
        typer.echo(json.dumps(evaluation_as_dict(evaluation), indent=2, ensure_ascii=False))
        return
    typer.echo(evaluation_as_text(evaluation), nl=False)
    if picture is not None:
        typer.echo(f"Picture: {picture}")


def _unsaid(text: str) -> None:
    """Say nothing: the first rank has the same."""
