"""The kinds of values that keys have, and what every section of the configuration is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# Strict scalars: YAML says what type a value has, and a boolean or a quoted number is a slip, not a number.
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1)]
CountOrZero = Annotated[int, Field(strict=True, ge=0)]
Pixels = Annotated[int, Field(strict=True, ge=16, multiple_of=8)]
Positive = Annotated[float, Field(strict=True, gt=0)]
NotNegative = Annotated[float, Field(strict=True, ge=0)]
Decay = Annotated[float, Field(strict=True, ge=0, lt=1)]
Text = Annotated[str, Field(strict=True, min_length=1)]


def _path(value: Any) -> Any:
    """Return the path with ``~`` resolved; YAML is not read by a shell that would do it."""
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise ValueError("a path is never empty")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # ~name of a user whom this machine does not know
        raise ValueError(str(error)) from error


FilePath = Annotated[Path, BeforeValidator(_path)]


class Section(BaseModel):
    """A part of the configuration: attributes in snake_case, YAML keys in upper case, nothing unknown."""

    model_config = ConfigDict(alias_generator=str.upper, extra="forbid", frozen=True, allow_inf_nan=False)


Share = Annotated[float, Field(strict=True, ge=0, lt=1)]
