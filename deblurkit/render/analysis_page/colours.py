"""Colours of the phases: the same one for a phase in every picture and every log."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable

from deblurkit.timing.partition import role_of
from deblurkit.timing.records import UNACCOUNTED

INK, SOFT, LINE, REST = "#1b1f24", "#59636e", "#d8dee4", "#c3c9d1"
STEP, BAND = "#2f6f9f", "#cfe0ec"
WRONG, LEVEL = "#c0392b", "#b7791f"
_HUES = {
    role: 200.0 + 40.0 * number
    for number, role in enumerate(
        ("data", "transfer", "forward", "loss", "backward", "all_reduce", "optimizer")
    )
}
_GOLDEN = 137.508  # degrees between hues: neighbours always look different
_SERIES = (205, 20, 140, 280, 45, 330, 170, 0)


def phase_hues(names: Iterable[str]) -> dict[str, float | None]:
    """Return a hue in degrees for each name; None, grey, for the time that no phase covers."""
    hues: dict[str, float | None] = {}
    others = 0
    for name in names:
        hue = _HUES.get(role_of(name) or "")
        if hue is None:
            hue = 120.0 + _GOLDEN * others
            others += 1
        hues[name] = None if name == UNACCOUNTED else hue
    return hues


def filled(hue: float | None, level: int = 0) -> str:
    """Return the colour of an area, the lighter the deeper it lies."""
    return REST if hue is None else _hex(hue, 0.52, min(0.86, 0.66 + 0.07 * level))


def drawn(number: int) -> str:
    """Return the colour of the line of a series, by its number."""
    return _hex(_SERIES[number % len(_SERIES)], 0.55, 0.42)


def band(number: int) -> str:
    """Return the colour of the band around that line."""
    return _hex(_SERIES[number % len(_SERIES)], 0.45, 0.88)


def _hex(hue: float, saturation: float, lightness: float) -> str:
    parts = colorsys.hls_to_rgb(hue % 360 / 360, lightness, saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
