"""A configuration as YAML that says where each value came from; presets, differences and keys as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len

from deblurkit.config.schema import Key
from deblurkit.config.yaml_source import value_as_yaml

COMMENT_COLUMN = 44


def config_as_yaml(values: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """Return a whole configuration as YAML, each value with its origin as a comment.

    Args:
        values: nested, as `deblurkit.config.schema.as_values` returns them.
        origins: by dotted key; a key without one has its default.
    """
    return "\n".join(_yaml_lines(values, origins, "")) + "\n"


def as_json(document: Any) -> str:
    """Return a JSON document to print."""
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def presets_as_text(presets: Mapping[str, Sequence[str]]) -> str:
    """Return a line for each preset: its name and the hardware line of its opening comment."""
    rows = [(f"  {name}", summary[1] if len(summary) > 1 else "") for name, summary in presets.items()]
    return "\n".join(["Presets", *_columns(rows)]) + "\n"


def differences_as_text(rows: Sequence[Mapping[str, Any]], *, names: tuple[str, str]) -> str:
    """Return the keys that differ as a table, or a line that says that none does.

    Args:
        rows: ``key``, ``a`` and ``b``, the plain values of the two.
        names: of the two configurations.
    """
    if not rows:
        return f"{names[0]} and {names[1]} are the same configuration.\n"
    cells = [(row["key"], value_as_yaml(row["a"]), value_as_yaml(row["b"])) for row in rows]
    return "\n".join(_columns([("Key", *names), *cells])) + "\n"


def keys_as_markdown(keys: Iterable[Key]) -> str:
    """Return the Markdown table of all keys that the manual holds."""
    rows = ["| key | default | takes | |", "|---|---|---|---|"]
    rows += [
        f"| `{key.name}` | `{value_as_yaml(key.default)}` | {key.expected} | {key.description} |"
        for key in keys
    ]
    return "\n".join(row.replace("cpu*", r"cpu\*") for row in rows) + "\n"


def _yaml_lines(values: Mapping[str, Any], origins: Mapping[str, str], section: str) -> list[str]:
    indent = "  " * section.count(".")
    lines = []
    for name, value in values.items():
        key = section + name
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}:", *_yaml_lines(value, origins, f"{key}.")]
            continue
        line = f"{indent}{name}: {value_as_yaml(value)}"
        lines.append(f"{_padded(line, COMMENT_COLUMN)}  # {_one_line(origins.get(key, 'default'))}")
    return lines


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows with their cells under each other; a wide character takes two columns."""
    cells = [[_one_line(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(_padded, row, widths)).rstrip() for row in cells]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
