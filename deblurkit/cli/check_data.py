"""``deblurkit check-data``: whether a dataset is whole, decoded right and paired right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from deblurkit.cli.options import Json

FAILED = 3  # a check that the user asked for


def check_data(
    root: Annotated[Path, typer.Argument(help="The dataset's folder, in any known layout.")],
    layout: Annotated[
        Literal["auto", "unified", "gopro", "spike-gopro", "triples", "recordings"],
        typer.Option("--layout", help="How the files lie; found out by default."),
    ] = "auto",
    spikes: Annotated[
        Path | None,
        typer.Option("--spikes", help="Folder of the recordings of GOPRO_Large; looked for by default."),
    ] = None,
    blur_variant: Annotated[
        Literal["blur", "blur_gamma"] | None,
        typer.Option("--blur-variant", help="What the blurry frames should be; by default what they say."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Look at a part of each sequence; no checksums.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check files, decoding, spike rates, alignment, kind of blur and checksums; exit 3 on any problem."""
    from deblurkit.data.checks.dataset import check_dataset
    from deblurkit.render.bar import progress_bar
    from deblurkit.render.check_data import check_as_json, check_as_text

    with progress_bar("sequences") as progress:
        report = check_dataset(
            root, layout=layout, spikes=spikes, blur_variant=blur_variant, quick=quick, progress=progress
        )
    typer.echo(check_as_json(report) if as_json else check_as_text(report), nl=as_json)
    if report.problems:
        raise typer.Exit(FAILED)
