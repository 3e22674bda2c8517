"""``deblurkit train``: train a network, or go on training it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus", min=1, help="Processes that train together, one on each GPU (on a CPU: that many)."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a network on blurry clips and spikes; the run's folder says where its time went."""
    chosen = _configuration(preset, config, overrides or [], output=output, resume=resume)

    import shlex

    if gpus is not None and gpus > 1:
        _launch(
            gpus,
            chosen,
            preset=preset,
            path=config,
            overrides=overrides or [],
            output=output,
            resume=resume,
            as_json=as_json,
        )
        return

    from deblurkit.render.lasting_stream import lasting
    from deblurkit.render.picture import before_and_after
    from deblurkit.render.progress import TrainingDisplay
    from deblurkit.render.scores import held_out_as_text
    from deblurkit.training import run
    from deblurkit.training.distributed import ranks_of_environment
    from deblurkit.units import plural

    with TrainingDisplay(language=chosen.log.language) as display:
        summary = run.train(
            chosen, observer=display, resume=resume, picture=before_and_after, hardware=_hardware
        )
    if not ranks_of_environment().is_main:
        return
    out = lasting(sys.stdout)  # the run is done and in its folder, whoever reads this
    if as_json:
        typer.echo(summary.as_json(), file=out)
        return
    typer.echo(
        f"{plural(summary.steps, 'step')} in {summary.seconds:.1f} s,"
        f" {summary.samples_per_second:.1f} samples/s; {held_out_as_text(summary.validation)}",
        file=out,
    )
    typer.echo(f"next: deblurkit evaluate {shlex.quote(str(chosen.log.save_dir))}", file=out)


def _hardware(kind: Literal["cpu", "cuda"]) -> str:
    """Return what a run is on, as a recommendation says it; imported only for a run that has a promise."""
    from deblurkit.tuning.recommend.hardware import describe_hardware

    return describe_hardware(kind)


def _launch(
    processes: int,
    chosen: Config,
    *,
    preset: str | None,
    path: Path | None,
    overrides: list[str],
    output: Path | None,
    resume: str | None,
    as_json: bool,
) -> None:
    """Run the same command in several processes."""
    from deblurkit.errors import UsageError
    from deblurkit.training.distributed import ranks_of_environment
    from deblurkit.training.launch import launch

    if ranks_of_environment().world_size > 1:
        raise UsageError("--gpus: torchrun has started this process already; leave --gpus out")
    options = {"--preset": preset, "--config": path, "--output": output, "--resume": resume}
    given = [part for name, value in options.items() if value is not None for part in (name, str(value))]
    keys = [part for override in overrides for part in ("--set", override)]
    launch(
        ["train", *given, *keys, *(["--json"] if as_json else [])],
        processes=processes,
        on_gpus=chosen.train.device != "cpu",
    )


def _configuration(
    preset: str | None, path: Path | None, overrides: list[str], *, output: Path | None, resume: str | None
) -> Config:
    """Return what is to be trained; a resumed run without --preset or --config takes its own config.yaml."""
    from deblurkit.config.load import load_config

    if preset is None and path is None:
        path = _own_configuration(output, resume)
    config = load_config(preset, path, overrides, warn=warn)
    if output is None:
        return config
    return config.model_copy(update={"log": config.log.model_copy(update={"save_dir": output})})


def _own_configuration(output: Path | None, resume: str | None) -> Path:
    """Return the config.yaml of the run that is to go on."""
    from deblurkit.errors import UsageError

    if resume is None:
        raise UsageError(
            "expected what to train: --preset NAME (try quickstart) or --config FILE;"
            " `deblurkit config show` lists the presets"
        )
    if output is None:
        raise UsageError(f"--resume {resume}: expected the run's folder too; add {_output_for(resume)}")
    if not (output / "config.yaml").is_file():
        raise UsageError(
            f"--output {output}: holds no run (no config.yaml); check the name, or say what to train by"
            " --preset or --config"
        )
    return output / "config.yaml"


def _output_for(resume: str) -> str:
    """Return the options that are missing; the run's folder is the one in the path that has a config.yaml."""
    import shlex

    near = [path for path in (Path(resume), *Path(resume).parents) if (path / "config.yaml").is_file()]
    return f"--output {shlex.quote(str(near[0]))} --resume auto" if near else "--output DIR"
