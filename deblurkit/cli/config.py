"""``deblurkit config``: show, check, describe and compare configurations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblurkit.cli.options import ConfigFile, Json, Overrides, Preset, warn

if TYPE_CHECKING:
    from deblurkit.config.schema import Config

app = typer.Typer(help="Show, check, describe and compare configurations.", no_args_is_help=True)


@app.command()
def show(
    preset: Preset = None, config: ConfigFile = None, overrides: Overrides = None, as_json: Json = False
) -> None:
    """Print the configuration that a run would have; without arguments the presets, then the defaults."""
    from deblurkit.config.load import load_with_origins
    from deblurkit.config.presets import find_presets, preset_summary
    from deblurkit.config.schema import as_values
    from deblurkit.render.config import as_json as to_json
    from deblurkit.render.config import config_as_yaml, presets_as_text

    loaded = load_with_origins(preset, config, overrides or (), warn=warn)
    values = as_values(loaded.config)
    origins = {key: str(origin) for key, origin in loaded.origins.items()}
    presets: dict[str, list[str]] = {}
    if preset is None and config is None and not overrides:
        presets = {name: preset_summary(path) for name, path in find_presets().items()}
    if as_json:
        document = {"presets": presets, "values": values, "origins": origins}
        typer.echo(to_json(document if presets else document | {"presets": None}), nl=False)
        return
    if presets:
        typer.echo(presets_as_text(presets) + "\nDefaults")
    typer.echo(config_as_yaml(values, origins), nl=False)


@app.command()
def validate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="YAML files, or presets by name.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Check configuration files; say ok or list every problem, and leave with 1 if there is one."""
    from deblurkit.errors import ConfigError
    from deblurkit.render.config import as_json as to_json

    problems: dict[str, list[str]] = {}
    for file in files:
        problems[file] = []
        try:
            _preset_or_file(file)
        except ConfigError as error:
            problems[file] = error.problems
    if as_json:
        rows = [{"file": name, "ok": not found, "problems": found} for name, found in problems.items()]
        typer.echo(to_json(rows), nl=False)
    else:
        typer.echo("\n".join("\n".join(found) or f"{name}: ok" for name, found in problems.items()))
    if any(problems.values()):
        raise typer.Exit(1)


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file.")] = None,
) -> None:
    """Print the JSON Schema, with which an editor completes and checks the YAML."""
    from deblurkit.config.schema import json_schema
    from deblurkit.errors import DeblurkitError
    from deblurkit.files import write_text
    from deblurkit.render.config import as_json as to_json

    text = to_json(json_schema())
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        write_text(output, text)
    except OSError as error:
        raise DeblurkitError(f"--output {output}: cannot be written: {error.strerror}") from error
    typer.echo(f"Wrote {output}.")


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A preset or a YAML file.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.", show_default=False)],
    as_json: Json = False,
) -> None:
    """List the keys in which two configurations differ."""
    from deblurkit.config.schema import flat_values
    from deblurkit.render.config import as_json as to_json
    from deblurkit.render.config import differences_as_text

    a, b = (flat_values(_preset_or_file(name)) for name in (first, second))
    rows = [{"key": key, "a": a[key], "b": b[key]} for key in a if a[key] != b[key]]
    typer.echo(to_json(rows) if as_json else differences_as_text(rows, names=(first, second)), nl=False)


def _preset_or_file(name: str) -> Config:
    from deblurkit.config.load import load_config
    from deblurkit.config.presets import find_presets

    is_file = name not in find_presets() and (Path(name).suffix in (".yaml", ".yml") or Path(name).exists())
    return load_config(path=Path(name), warn=warn) if is_file else load_config(name, warn=warn)
