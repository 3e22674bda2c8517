"""From a preset, a file and ``--set`` options to one checked configuration; all problems are told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deblurkit.config.checks import Contradiction
from deblurkit.config.layers import SET, Layer, layer_of_file, layer_of_overrides
from deblurkit.config.presets import preset_path
from deblurkit.config.schema import CONTRADICTION, Config, known_keys, shown
from deblurkit.config.settings import Origin, Problem, Setting
from deblurkit.errors import ConfigError, UsageError


@dataclass(frozen=True)
class Loaded:
    """A configuration and where its values were written.

    Attributes:
        config: the checked configuration.
        origins: of every key that some source gave, by dotted name; the others have their defaults.
    """

    config: Config
    origins: Mapping[str, Origin]


def load_config(
    preset: str | None = None,
    path: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    warn: Callable[[str], None],
) -> Config:
    """Return the defaults with the preset laid over them, then the file, then the ``KEY=VALUE`` overrides.

    Args:
        preset: name of a preset, or None.
        path: a YAML file, or None.
        overrides: such as ``TRAIN.BATCH_SIZE=2``.
        warn: is told of older names and of keys that do nothing.

    Raises:
        ConfigError: with every problem of every source.
        UsageError: if nothing but the form of an override is wrong.
    """
    return load_with_origins(preset, path, overrides, warn=warn).config


def load_with_origins(
    preset: str | None = None,
    path: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    warn: Callable[[str], None],
) -> Loaded:
    """Return what `load_config` does, together with the origin of each value; it raises the same."""
    layers: list[Layer] = []
    problems: list[Problem] = []
    if preset is not None:
        try:
            layers.append(layer_of_file(preset_path(preset), name=f"preset {preset}"))
        except ConfigError as error:
            problems += [Problem(Origin(""), "", line) for line in error.problems]
    if path is not None:
        layers.append(layer_of_file(path))
    if overrides:
        layers.append(layer_of_overrides(overrides))
    for layer in layers:
        for warning in layer.warnings:
            warn(warning)
    return combine(layers, problems=problems)


def combine(layers: Sequence[Layer], *, problems: Sequence[Problem] = ()) -> Loaded:
    """Return the configuration that the layers make, each laid over the ones before it.

    Args:
        layers: in rising order.
        problems: those found before; they are reported with the others.

    Raises:
        ConfigError: with every problem of every layer.
        UsageError: if nothing but the form of an override is wrong.
    """
    settings: dict[str, Setting] = {}
    for layer in layers:
        settings.update(layer.settings)
    order = {name: rank for rank, name in enumerate(["", *(layer.name for layer in layers)])}
    config, wrong = _validated(settings, order)
    found = [*problems, *(problem for layer in layers for problem in layer.problems), *wrong]
    if config is not None and not found:
        return Loaded(config, {key: setting.origin for key, setting in settings.items()})
    found.sort(key=lambda problem: (order[problem.origin.source], problem.origin.line or 0))
    lines = list(dict.fromkeys(map(str, found)))
    if all(problem.is_usage for problem in found):
        raise UsageError("\n".join(lines))
    raise ConfigError(lines)


def _validated(
    settings: Mapping[str, Setting], order: Mapping[str, int]
) -> tuple[Config | None, list[Problem]]:
    """Return the configuration without the wrong values, and what is wrong.

    Wrong values are left out for another try, so that what the others contradict is found as well.
    """
    good, problems = dict(settings), list[Problem]()
    while True:
        try:
            return Config.model_validate(_nested(good)), problems
        except ValidationError as error:
            details = error.errors(include_url=False)
        if details[0]["type"] == CONTRADICTION:
            wrong = {problem.key for problem in problems}
            found: list[Contradiction] = details[0]["ctx"]["found"]
            clear = [item for item in found if wrong.isdisjoint(item.keys)]
            return None, problems + [_contradiction(item, settings, order) for item in clear]
        for key in dict.fromkeys(_key(detail["loc"]) for detail in details):
            setting = good.pop(key)
            message = f"expected {known_keys()[key].expected}, got {shown(setting.value)}"
            problems.append(Problem(setting.origin, key, message))


def _contradiction(item: Contradiction, settings: Mapping[str, Setting], order: Mapping[str, int]) -> Problem:
    """Return the problem of the first key, where the last was written, with the places of the others."""
    written = [key for key in item.keys if key in settings]
    assert written, "the defaults do not contradict each other"
    place = max(written, key=lambda key: order[settings[key].origin.source])
    fault = item.keys[0]
    others = [_written(key, settings) for key in item.keys if place != fault or key != fault]
    message = item.message + (f" [{', '.join(others)}]" if others else "")
    return Problem(settings[place].origin, fault, message, is_elsewhere=place != fault)


def _written(key: str, settings: Mapping[str, Setting]) -> str:
    origin = settings[key].origin if key in settings else Origin("default")
    return f"{SET} {key}" if origin.source == SET else f"{key}: {origin}"


def _key(location: tuple[int | str, ...]) -> str:
    """Return the key that an error of pydantic belongs to; its location goes on into unions and lists."""
    names = [".".join(map(str, location[:depth])) for depth in range(len(location), 0, -1)]
    return next(name for name in names if name in known_keys())


def _nested(settings: Mapping[str, Setting]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, setting in settings.items():
        *sections, last = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = setting.value
    return values
