"""One source of values each: a preset, a file, the ``--set`` options; what they say and where they say it."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deblurkit.config.migrate import RENAMED, migrate
from deblurkit.config.schema import known_keys, shown
from deblurkit.config.settings import Origin, Problem, Setting
from deblurkit.config.yaml_source import Entry, parse, parse_value, read_text
from deblurkit.errors import ConfigError

SET = "--set"
_MOST_GUESSES = 3


@dataclass
class Layer:
    """What one source says.

    Attributes:
        name: the source as messages call it.
        settings: known keys by dotted name; their values are not yet checked.
        problems: what cannot be a setting at all.
        warnings: older names, and keys that do nothing.
    """

    name: str
    settings: dict[str, Setting] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def layer_of_file(path: Path, *, name: str | None = None) -> Layer:
    """Return what a YAML file says; a file that cannot be read gives a layer with a problem.

    Args:
        path: the file.
        name: what messages call it; its path if not given.
    """
    layer = Layer(name or str(path))
    try:
        text = read_text(path)
    except ConfigError as error:
        layer.problems += [Problem(Origin(""), "", line) for line in error.problems]
        return layer
    return layer_of_text(text, name=layer.name)


def layer_of_text(text: str, *, name: str) -> Layer:
    """Return what a YAML text says; ``name`` is what messages call it."""
    layer = Layer(name)
    document = parse(text)
    layer.problems += [Problem(Origin(name, line), "", message) for line, message in document.problems]
    _place(document.entries, layer)
    return layer


def layer_of_overrides(overrides: Sequence[str]) -> Layer:
    """Return what ``KEY=VALUE`` options say; a key given twice has its last value."""
    layer = Layer(SET)
    entries = []
    for override in overrides:
        name, equals, text = override.partition("=")
        path = tuple(name.strip().split("."))
        if not equals or not all(path):
            message = f"expected KEY=VALUE such as TRAIN.BATCH_SIZE=2, got {override!r}"
            layer.problems.append(Problem(Origin(SET), "", message, is_usage=True))
            continue
        try:
            entries += _entries_of_value(path, parse_value(text))
        except ValueError as error:
            layer.problems.append(Problem(Origin(SET), name.strip(), str(error), is_usage=True))
    _place(entries, layer)
    return layer


def _entries_of_value(path: tuple[str, ...], value: Any) -> list[Entry]:
    if not isinstance(value, dict) or not value:
        return [Entry(path, (0,) * len(path), value)]
    return [entry for name, below in value.items() for entry in _entries_of_value((*path, name), below)]


def _place(entries: Iterable[Entry], layer: Layer) -> None:
    """Put each entry among the layer's settings or its problems, and give older names their new ones."""
    for entry in entries:
        depth, problem = _misplaced(entry)
        origin = Origin(layer.name, entry.lines[depth - 1] or None)
        name = ".".join(entry.path[:depth])
        if not problem:
            if name not in _sections():
                layer.settings[name] = Setting(entry.value, origin)
        elif (
            Problem(origin, name, problem) not in layer.problems
        ):  # one for all keys below an unknown section
            layer.problems.append(Problem(origin, name, problem))
    moved = migrate(layer.settings)
    layer.settings = moved.settings
    layer.problems += moved.problems
    layer.warnings += moved.warnings


def _misplaced(entry: Entry) -> tuple[int, str]:
    """Return how many keys of the path matter, and what is wrong with them or nothing."""
    sections, keys = _sections(), known_keys()
    for depth in range(1, len(entry.path) + 1):
        if "." in entry.path[depth - 1]:
            return depth, "a key holds no dot; write `SECTION:` and the key on the next line, indented"
        name = ".".join(entry.path[:depth])
        if name in sections:
            continue
        is_known = name in keys or name in _old_names()
        if not is_known:
            return depth, f"unknown key; {_guess(name, '.'.join(entry.path))}"
        if depth < len(entry.path) or isinstance(entry.value, dict):
            expected = keys[name].expected if name in keys else "one value"
            return depth, f"expected {expected}, got a mapping"
    if ".".join(entry.path) in sections and entry.value not in (None, {}):
        return len(entry.path), f"expected keys below it, one a line, got {shown(entry.value)}"
    return len(entry.path), ""


def _guess(name: str, path: str) -> str:
    """Return which known keys ``name`` may stand for, the first unknown part of ``path``."""
    section, _, last = name.rpartition(".")
    names = [*_sections(), *known_keys()]
    if path.upper() in names:
        return f"did you mean {path.upper()}?"
    elsewhere = [known for known in names if known.rpartition(".")[2] == last.upper()]
    beside = [known.rpartition(".")[2] for known in names if known.rpartition(".")[0] == section]
    prefix = f"{section}." if section else ""
    close = [prefix + known for known in difflib.get_close_matches(last.upper(), beside)]
    inside = [known for known in elsewhere if known.startswith(prefix)]
    guesses = (
        inside or close or elsewhere or difflib.get_close_matches(name.upper(), known_keys(), cutoff=0.75)
    )
    if guesses:
        return f"did you mean {' or '.join(guesses[:_MOST_GUESSES])}?"
    return f"{section or 'the top'} takes {', '.join(beside)}"


@functools.cache
def _sections() -> dict[str, None]:
    """Return the dotted names of all sections, in the order of the schema."""
    names: dict[str, None] = {}
    for key in known_keys():
        parts = key.split(".")
        names.update(dict.fromkeys(".".join(parts[:depth]) for depth in range(1, len(parts))))
    return names


@functools.cache
def _old_names() -> frozenset[str]:
    return frozenset(rename.old for rename in RENAMED)
