"""A configuration with a few other values, and those values as ``--set`` takes them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from deblurkit.config.schema import Config, as_values

_WORDS = {True: "true", False: "false", None: "null"}


def changed(config: Config, settings: Mapping[str, Any]) -> Config | None:
    """Return ``config`` with other values, None where that makes no valid one.

    Args:
        config: is left as it is.
        settings: plain values by dotted name.
    """
    values = as_values(config)
    for key, value in settings.items():
        *sections, name = key.split(".")
        functools.reduce(lambda part, section: part[section], sections, values)[name] = value
    try:
        return Config.model_validate(values)
    except ValidationError:
        return None


def as_assignments(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return ``KEY=VALUE`` of each setting, as ``--set`` reads it."""
    return tuple(f"{key}={_as_yaml(value)}" for key, value in settings.items())


def _as_yaml(value: Any) -> str:
    return _WORDS[value] if isinstance(value, bool | None) else str(value)
