"""``deblurkit profile-step``: one training step taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from deblurkit.cli.options import ConfigFile, Json, Overrides, Preset, warn

DEPTH = 2

Steps = Annotated[int, typer.Option("--steps", min=1, help="Steps that are timed.")]
Warmup = Annotated[int, typer.Option("--warmup", min=0, help="Steps before them.")]
Depth = Annotated[
    int | None,
    typer.Option("--depth", min=1, help=f"Levels of modules with rows, by default {DEPTH}: VRT/Stage1."),
]
Modules = Annotated[
    str | None,
    typer.Option("--modules", metavar="REGEX", help="The modules that get a row, instead of --depth."),
]
Data = Annotated[
    bool, typer.Option("--data/--synthetic", help="Clips from the run's loader, or random ones.")
]
Trace = Annotated[
    Path | None, typer.Option("--trace", help="Write the timed steps for Perfetto or chrome://tracing.")
]
Html = Annotated[Path | None, typer.Option("--html", help="Write a page with a picture of the step.")]
TorchProfiler = Annotated[
    Path | None, typer.Option("--torch-profiler", help="Write a step's trace of PyTorch's own profiler.")
]
Verbose = Annotated[
    Literal["shapes"] | None, typer.Option("--verbose", help="shapes: what each module takes and gives.")
]


def profile_step(
    preset: Preset = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    steps: Steps = 5,
    warmup: Warmup = 2,
    depth: Depth = None,
    modules: Modules = None,
    data: Data = False,
    as_json: Json = False,
    trace: Trace = None,
    html: Html = None,
    torch_profiler: TorchProfiler = None,
    verbose: Verbose = None,
) -> None:
    """Take a training step apart: time, FLOPs and memory by phase and module, and what would speed it up."""
    _check_call(preset, config, depth=depth, modules=modules)

    from deblurkit.config.load import load_config
    from deblurkit.files import check_writable, write_text
    from deblurkit.language import resolve_language
    from deblurkit.render.bar import progress_bar
    from deblurkit.render.icicle import profile_as_html
    from deblurkit.render.profile import profile_as_json, profile_as_text
    from deblurkit.render.step_trace import profile_as_trace
    from deblurkit.training.profiling.profile import profile_step as measure

    chosen = load_config(preset, config, overrides or [], warn=warn)
    outputs = {"Picture": html, "Trace": trace, "PyTorch's trace": torch_profiler}
    written = {name: path for name, path in outputs.items() if path is not None}
    for path in written.values():
        check_writable(path)
    with progress_bar("steps") as progress:
        profile = measure(
            chosen,
            steps=steps,
            warmup=warmup,
            depth=depth or DEPTH,
            pattern=modules,
            language=resolve_language(chosen.log.language),
            use_data=data,
            torch_trace=torch_profiler,
            message=lambda text: typer.echo(text, err=True),
            warn=warn,
            progress=progress,
        )
    if html is not None:
        write_text(html, profile_as_html(profile))
    if trace is not None:
        write_text(trace, profile_as_trace(profile))
    if as_json:
        typer.echo(profile_as_json(profile))
        return
    files = "".join(f"{name}: {path}\n" for name, path in written.items())
    typer.echo(profile_as_text(profile, shapes=verbose == "shapes") + files, nl=False)


def _check_call(preset: str | None, config: Path | None, *, depth: int | None, modules: str | None) -> None:
    """Raise a UsageError if the options do not say what to profile, or how."""
    import re

    from deblurkit.errors import UsageError

    if preset is None and config is None:
        raise UsageError(
            "expected what to profile: --preset NAME (try quickstart) or --config FILE;"
            " `deblurkit config show` lists the presets"
        )
    if depth is not None and modules is not None:
        raise UsageError("--depth and --modules: both choose which modules get a row; leave one out")
    try:
        re.compile(modules or "")
    except re.error as error:
        raise UsageError(f"--modules {modules}: expected a regular expression: {error}") from error
