"""The configurations that come with the package."""

from __future__ import annotations

import difflib
from itertools import takewhile
from pathlib import Path

from deblurkit.errors import ConfigError


def find_presets() -> dict[str, Path]:
    """Return the presets by name, sorted: those inside the installed package, or those of the checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        if found:
            return found
    return {}


def preset_path(name: str) -> Path:
    """Return the file of a preset.

    Raises:
        ConfigError: if there is none of that name.
    """
    presets = find_presets()
    if name in presets:
        return presets[name]
    close = difflib.get_close_matches(name, presets, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    file = " (a file is given with --config)" if "/" in name or name.endswith((".yaml", ".yml")) else ""
    raise ConfigError(
        [f"--preset {name}: no such preset{file}; {hint}there are: {', '.join(presets) or 'none'}"]
    )


def preset_summary(path: Path) -> list[str]:
    """Return the lines of a preset's opening comment: its command, its hardware, and what else to know."""
    with path.open(encoding="utf-8") as file:
        return [line.strip("# \n") for line in takewhile(lambda line: line.startswith("#"), file)]
