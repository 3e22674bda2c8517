"""``deblurkit train``: train a network, or go on training it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblurkit.cli.options import ConfigFile, Json, Overrides, Preset, warn

if TYPE_CHECKING:
    from deblurkit.config.schema import Config


def train(
    preset: Preset = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run (LOG.SAVE_DIR).")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", help="auto: go on from the newest checkpoint in the folder; or a checkpoint."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a network on blurry clips and spikes; the run's folder says where its time went."""
    chosen = _configuration(preset, config, overrides or [], output=output, resume=resume)

    import shlex

    from deblurkit.render.picture import before_and_after
    from deblurkit.render.progress import TrainingDisplay
    from deblurkit.render.scores import held_out_as_text
    from deblurkit.training import run

    with TrainingDisplay(language=chosen.log.language) as display:
        summary = run.train(chosen, observer=display, resume=resume, picture=before_and_after)
    if as_json:
        typer.echo(summary.as_json())
        return
    typer.echo(
        f"{summary.steps} steps in {summary.seconds:.1f} s, {summary.samples_per_second:.1f} samples/s;"
        f" {held_out_as_text(summary.validation)}"
    )
    typer.echo(f"next: deblurkit evaluate {shlex.quote(str(chosen.log.save_dir))}")


def _configuration(
    preset: str | None, path: Path | None, overrides: list[str], *, output: Path | None, resume: str | None
) -> Config:
    """Return what is to be trained; a resumed run without --preset or --config takes its own config.yaml."""
    from deblurkit.config.load import load_config
    from deblurkit.errors import UsageError

    if preset is None and path is None:
        own = output / "config.yaml" if output is not None and resume is not None else None
        if own is None or not own.is_file():
            raise UsageError(
                "expected what to train: --preset NAME (try quickstart) or --config FILE;"
                " `deblurkit config show` lists the presets"
            )
        path = own
    config = load_config(preset, path, overrides, warn=warn)
    if output is None:
        return config
    return config.model_copy(update={"log": config.log.model_copy(update={"save_dir": output})})
