"""Sizes and durations as they are written on a command line: ``24GiB``, ``1h30m``."""

from __future__ import annotations

import math
import re

from deblurkit.errors import UsageError

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
_SIZE = re.compile(rf"({_NUMBER})\s*([kmgt]i?b?)", re.IGNORECASE)
_DURATION = re.compile(rf"(?:({_NUMBER})h)?(?:({_NUMBER})m(?:in)?)?(?:({_NUMBER})s)?", re.IGNORECASE)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


def read_size(option: str, text: str) -> int:
    """Return the bytes of a size: ``24GiB``, ``24G`` and ``24g`` are powers of 1024, ``24GB`` of 1000.

    Raises:
        UsageError: if the text is none, or nothing.
    """
    match = _SIZE.fullmatch(text.strip())
    size = 0
    if match is not None:
        number, unit = match[1], match[2].lower()
        size = int(
            float(number) * (1000 if unit.endswith("b") and "i" not in unit else 1024) ** _POWERS[unit[0]]
        )
    if size < 1:
        raise UsageError(f"{option} {text}: expected a size with its unit, such as 24GiB or 800MiB")
    return size


def read_duration(option: str, text: str) -> float:
    """Return the seconds of a duration: ``90s``, ``10m``, ``1h30m``.

    Raises:
        UsageError: if the text is none, or nothing.
    """
    match = _DURATION.fullmatch(text.strip().replace(" ", ""))
    parts = (0.0, 0.0, 0.0) if match is None else tuple(float(part or 0) for part in match.groups())
    seconds = math.fsum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    if seconds <= 0:
        raise UsageError(f"{option} {text}: expected a duration with its unit, such as 90s, 10m or 1h30m")
    return seconds
