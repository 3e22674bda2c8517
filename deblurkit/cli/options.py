"""Options that several commands share, so that they are spelt and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", "-p", help="A preset by name, such as low_memory; `deblurkit config show` lists them."
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "--cfg", "-c", help="A YAML file; laid over the preset where both are given."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="One key for this run, such as TRAIN.BATCH_SIZE=2; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def warn(text: str) -> None:
    """Print a warning on standard error, where it does not mix with results."""
    typer.echo(f"deblurkit: warning: {text}", err=True)
