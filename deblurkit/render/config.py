"""A configuration as YAML that says where each value came from; presets and differences as tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.cells import cell_len

COMMENT_COLUMN = 44


def config_as_yaml(values: Mapping[str, Any], origins: Mapping[tuple[str, ...], str]) -> str:
    """Return the YAML of a whole configuration; what is no default carries its origin as a comment."""
    return "\n".join(_lines(values, origins, path=())) + "\n"


def presets_as_text(presets: Mapping[str, list[str]]) -> str:
    """Return the presets' names with the first line of what each is for."""
    width = max((len(name) for name in presets), default=0)
    rows = [
        f"  {name:<{width}}  {summary[1] if len(summary) > 1 else ''}" for name, summary in presets.items()
    ]
    return "\n".join(["Presets:", *rows]) + "\n"


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a configuration by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def difference_as_text(rows: list[dict[str, Any]], *, names: tuple[str, str]) -> str:
    """Return the keys that differ as a table of three columns, one line if there are none."""
    first, second = names
    if not rows:
        return f"{first} and {second} are the same configuration\n"
    cells = [("KEY", first, second), *[(row["key"], _scalar(row["a"]), _scalar(row["b"])) for row in rows]]
    widths = [max(cell_len(line[column]) for line in cells) for column in range(3)]
    lines = [
        "  ".join(text + " " * (width - cell_len(text)) for text, width in zip(line, widths, strict=True))
        for line in cells
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def short_name(name: str) -> str:
    """Return a preset's name, or a file's without its folders."""
    return Path(name).name


def _lines(
    values: Mapping[str, Any], origins: Mapping[tuple[str, ...], str], *, path: tuple[str, ...]
) -> list[str]:
    indent = "  " * len(path)
    lines = []
    for key, value in values.items():
        below = (*path, key)
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *_lines(value, origins, path=below)]
            continue
        line = f"{indent}{key}: {_scalar(value)}"
        if below in origins:
            line = f"{line:<{COMMENT_COLUMN}}  # {origins[below]}"
        lines.append(line)
    return lines


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
