"""From a preset, a file and overrides to one checked configuration; every problem is told at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from deblurkit.config.migrate import migrate
from deblurkit.config.presets import preset_path
from deblurkit.config.schema import Config
from deblurkit.config.yaml_source import KeyPath, Setting, read_settings
from deblurkit.errors import ConfigError, UsageError


@dataclass(frozen=True)
class Loaded:
    """A configuration and where each of its values was written (paths that are missing are defaults)."""

    config: Config
    origins: dict[KeyPath, str]


def load_config(
    preset: str | None = None,
    path: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    warn: Callable[[str], None],
) -> Config:
    """Return the configuration of a run: defaults, under a preset, under a file, under ``KEY=VALUE`` overrides.

    Args:
        preset: name of a preset.
        path: a YAML file.
        overrides: such as ``TRAIN.BATCH_SIZE=2``; the value is read as YAML.
        warn: told of old keys.

    Raises:
        ConfigError: with a line for every problem.
        UsageError: if an override is not of the form KEY=VALUE.
    """
    return load_with_origins(preset, path, overrides, warn=warn).config


def load_with_origins(
    preset: str | None = None,
    path: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    warn: Callable[[str], None],
) -> Loaded:
    """Return what ``load_config`` does, and where each value was written."""
    layers: list[tuple[list[Setting], list[str]]] = []
    if preset is not None:
        layers.append(_read_layer(preset_path(preset), warn))
    if path is not None:
        layers.append(_read_layer(path, warn))
    layers.append(_checked_names([_override(text) for text in overrides], warn))
    settings: dict[KeyPath, Setting] = {}
    for layer, _ in layers:
        settings.update({setting.path: setting for setting in layer})
    problems = [problem for _, found in layers for problem in found]
    return build(settings.values(), problems=problems)


def build(settings: Iterable[Setting], *, problems: Sequence[str] = ()) -> Loaded:
    """Return the configuration that ``settings`` make, on top of the defaults.

    Raises:
        ConfigError: with ``problems`` and all that the schema and the rules between keys object to.
    """
    chosen = list(settings)
    origins = {setting.path: setting.origin for setting in chosen}
    found = list(problems)
    try:
        config = Config.model_validate(_tree(chosen))
    except ValidationError as error:
        found += _complaints(error.errors(), origins)
    else:
        found += _contradictions(config, origins)
    if found:
        raise ConfigError(list(dict.fromkeys(found)))
    if config.data.k is not None and ("DATA", "NUM_VOXEL_BINS") not in origins:
        data = config.data.model_copy(update={"num_voxel_bins": config.data.k})
        config = config.model_copy(update={"data": data})
    return Loaded(config, origins)


def known_paths(model: type[BaseModel] = Config, prefix: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield every path of the schema, sections before what they hold."""
    for name, field in model.model_fields.items():
        path = (*prefix, name.upper())
        yield path
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_paths(field.annotation, path)


def _read_layer(path: Path, warn: Callable[[str], None]) -> tuple[list[Setting], list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: expected UTF-8 text, found other bytes at {error.start}"]) from error
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    settings, problems = read_settings(text, source=str(path))
    checked, more = _checked_names(settings, warn)
    return checked, problems + more


def _override(text: str) -> Setting:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--set {text}: expected KEY=VALUE, such as --set TRAIN.BATCH_SIZE=2")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text}: the value is not valid YAML") from error
    return Setting(tuple(name.strip().split(".")), parsed, f"--set {name.strip()}")


def _checked_names(settings: list[Setting], warn: Callable[[str], None]) -> tuple[list[Setting], list[str]]:
    """Give old keys their present names and sort out what the schema does not know."""
    known = list(known_paths())
    moved, problems = migrate(settings, known=known, warn=warn)
    names = {".".join(path): path for path in known}
    sections = {path[:depth] for path in known for depth in range(1, len(path))}
    fitting = []
    for setting in moved:
        if setting.path not in known:
            problems.append(_unknown(setting, names))
        elif setting.path in sections and setting.value is None:
            continue  # a section whose keys are all commented out
        elif setting.path in sections and not isinstance(setting.value, dict):
            held = ", ".join(path[-1] for path in known if path[:-1] == setting.path)
            problems.append(
                f"{setting.origin}: {setting.name} is a section; expected keys below it ({held}),"
                f" got {setting.value!r}"
            )
        else:
            fitting.append(setting)
    return fitting, problems


def _unknown(setting: Setting, names: dict[str, KeyPath]) -> str:
    near = difflib.get_close_matches(setting.name.upper(), names, n=1, cutoff=0.6)
    if not near:
        last = [name for name, path in names.items() if path[-1] == setting.path[-1].upper()]
        near = last[:1]
    hint = f"; did you mean {near[0]}?" if near else "; `deblurkit config show` lists all keys"
    return f"{setting.origin}: unknown key {setting.name}{hint}"


def _tree(settings: Iterable[Setting]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for setting in settings:
        branch = tree
        for key in setting.path[:-1]:
            branch = branch.setdefault(key, {})
        if not (isinstance(setting.value, dict) and setting.path[-1] in branch):
            branch[setting.path[-1]] = setting.value
    return tree


def _complaints(details: Sequence[Any], origins: dict[KeyPath, str]) -> list[str]:
    """Return a line for each value that pydantic refused: where, which key, what was expected, what came."""
    expected: dict[tuple[KeyPath, str, str], list[str]] = {}
    for detail in details:
        location = tuple(str(part) for part in detail["loc"])
        path = next(location[:end] for end in range(len(location), -1, -1) if location[:end] in origins)
        item = next((f", item {int(part) + 1}" for part in location[len(path) :] if part.isdigit()), "")
        text = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        expected.setdefault((path, item, repr(detail["input"])), []).append(text)
    return [
        f"{origins[path]}: {'.'.join(path)}{item}: expected {' or '.join(dict.fromkeys(texts))}, got {value}"
        for (path, item, value), texts in expected.items()
    ]


def _contradictions(config: Config, origins: dict[KeyPath, str]) -> list[str]:
    """Return a line for every pair of keys that cannot both be meant."""
    data, model, train = config.data, config.model, config.train
    rules: list[tuple[bool, str, str]] = [
        (
            data.k is not None and ("DATA", "NUM_VOXEL_BINS") in origins and data.k != data.num_voxel_bins,
            "DATA.K",
            f"is {data.k} and DATA.NUM_VOXEL_BINS is {data.num_voxel_bins}; they mean the same, keep one",
        ),
        (
            data.train_crop_size is not None and data.train_crop_size > data.crop_size,
            "DATA.TRAIN_CROP_SIZE",
            f"{data.train_crop_size} is larger than DATA.CROP_SIZE {data.crop_size}",
        ),
        (
            len(model.vrt_depths) not in (8, 11, 13),
            "MODEL.VRT_DEPTHS",
            f"expected 8, 11 or 13 entries (seven stages and the groups of stage 8), got {len(model.vrt_depths)}",
        ),
        (
            train.max_steps is not None and train.sched.warmup_steps > train.max_steps,
            "TRAIN.SCHED.WARMUP_STEPS",
            f"{train.sched.warmup_steps} is more than TRAIN.MAX_STEPS {train.max_steps}",
        ),
        (
            train.sched.min_lr > train.optim.lr,
            "TRAIN.SCHED.MIN_LR",
            f"{train.sched.min_lr} is above TRAIN.OPTIM.LR {train.optim.lr}",
        ),
        *[
            (
                any(channels % section.heads for channels in model.channels_per_scale),
                f"MODEL.{key}.HEADS",
                f"{section.heads} does not divide every entry of MODEL.CHANNELS_PER_SCALE {model.channels_per_scale}",
            )
            for key, section in (("SPIKE_TSA", model.spike_tsa), ("FUSE", model.fuse))
        ],
    ]
    return [
        f"{origins.get(tuple(name.split('.')), 'configuration')}: {name}: {text}"
        for broken, name, text in rules
        if broken
    ]
