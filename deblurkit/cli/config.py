"""``deblurkit config``: show, validate, describe and compare configurations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblurkit.cli.options import ConfigFile, Json, Overrides, Preset

if TYPE_CHECKING:
    from deblurkit.config.load import Loaded

app = typer.Typer(help="Show, check, describe and compare configurations.", no_args_is_help=True)


@app.command()
def show(
    preset: Preset = None, config: ConfigFile = None, overrides: Overrides = None, as_json: Json = False
) -> None:
    """Print the configuration that a run would have; without arguments the presets and the defaults."""
    import json

    from deblurkit.config.load import load_with_origins
    from deblurkit.config.presets import find_presets, preset_summary
    from deblurkit.render.config import config_as_yaml, presets_as_text

    loaded = load_with_origins(preset, config, overrides or (), warn=_warn)
    values = _plain(loaded)
    if as_json:
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
        return
    if preset is None and config is None and not overrides:
        summaries = {name: preset_summary(path) for name, path in find_presets().items()}
        typer.echo(presets_as_text(summaries))
        typer.echo("Defaults:")
    typer.echo(config_as_yaml(values, loaded.origins), nl=False)


@app.command()
def validate(files: Annotated[list[Path], typer.Argument(help="YAML files.", show_default=False)]) -> None:
    """Check configuration files and list every problem of each."""
    from deblurkit.config.load import load_config
    from deblurkit.errors import ConfigError

    problems: list[str] = []
    for file in files:
        try:
            load_config(None, file, warn=_warn)
        except ConfigError as error:
            problems += error.problems
        else:
            typer.echo(f"{file}: ok")
    if problems:
        raise ConfigError(problems)


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to a file.")] = None,
) -> None:
    """Print the JSON Schema, with which an editor completes and checks the YAML."""
    import json

    from deblurkit.config.schema import Config
    from deblurkit.files import write_text

    text = json.dumps(
        {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()},
        indent=2,
        ensure_ascii=False,
    )
    if output is None:
        typer.echo(text)
    else:
        write_text(output, text + "\n")
        typer.echo(f"wrote {output}")


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A preset or a YAML file.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    as_json: Json = False,
) -> None:
    """List the keys in which two configurations differ."""
    import json

    from deblurkit.render.config import difference_as_text, flattened, short_name

    a, b = (flattened(_plain(_load_either(name))) for name in (first, second))
    rows = [{"key": key, "a": a[key], "b": b[key]} for key in a if a[key] != b[key]]
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        typer.echo(difference_as_text(rows, names=(short_name(first), short_name(second))), nl=False)


def _load_either(name: str) -> Loaded:
    from deblurkit.config.load import load_with_origins
    from deblurkit.config.presets import find_presets

    if name not in find_presets() and (Path(name).suffix or Path(name).exists()):
        return load_with_origins(None, Path(name), warn=_warn)
    return load_with_origins(name, None, warn=_warn)


def _plain(loaded: Loaded) -> dict[str, Any]:
    return loaded.config.model_dump(mode="json", by_alias=True)


def _warn(text: str) -> None:
    typer.echo(f"deblurkit: warning: {text}", err=True)
