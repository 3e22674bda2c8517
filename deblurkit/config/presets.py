"""The presets: YAML files that come with the package."""

from __future__ import annotations

import difflib
from pathlib import Path

import deblurkit
from deblurkit.errors import ConfigError


def find_presets() -> dict[str, Path]:
    """Return the presets by name: those inside an installed package, else the checkout's ``configs/``."""
    package = Path(deblurkit.__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        if found:
            return found
    return {}


def preset_path(name: str) -> Path:
    """Return the file of a preset.

    Raises:
        ConfigError: if there is none of that name; the nearest is named.
    """
    presets = find_presets()
    if name in presets:
        return presets[name]
    near = difflib.get_close_matches(name, presets, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError([f"--preset {name}: no such preset{hint} There are: {', '.join(presets)}"])


def preset_summary(path: Path) -> list[str]:
    """Return the lines of the comment that a preset opens with: its command, its hardware, its reasons."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return lines
