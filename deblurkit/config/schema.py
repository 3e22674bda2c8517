"""The whole configuration, its keys as a table, and its JSON Schema."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from deblurkit.config.checks import contradictions
from deblurkit.config.sections.data import DataLoaderSection, DataSection
from deblurkit.config.sections.model import (
    AttentionSection,
    FuseSection,
    ModelSection,
    SpikeTsaSection,
    VrtSection,
)
from deblurkit.config.sections.run import LogSection, PromiseSection, TestSection
from deblurkit.config.sections.train import (
    CharbonnierSection,
    LossSection,
    OptimSection,
    SchedSection,
    TrainSection,
    VggPerceptualSection,
)
from deblurkit.config.sections.values import CountOrZero, Section

__all__ = [
    "AttentionSection",
    "CharbonnierSection",
    "Config",
    "DataLoaderSection",
    "DataSection",
    "FuseSection",
    "Key",
    "LogSection",
    "LossSection",
    "ModelSection",
    "OptimSection",
    "PromiseSection",
    "SchedSection",
    "Section",
    "SpikeTsaSection",
    "TestSection",
    "TrainSection",
    "VggPerceptualSection",
    "VrtSection",
    "as_values",
    "flat_values",
    "json_schema",
    "known_keys",
    "shown",
]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
CONTRADICTION = "contradiction"
_LONGEST_SHOWN = 60


class Config(Section):
    """A run's configuration; one that exists is free of contradictions."""

    seed: CountOrZero = Field(123, le=2**32 - 1, description="Seed of every random draw of a run.")
    data: DataSection = Field(default_factory=DataSection, description="Recordings and samples.")
    model: ModelSection = Field(default_factory=ModelSection, description="Network.")
    dataloader: DataLoaderSection = Field(default_factory=DataLoaderSection, description="Loader workers.")
    train: TrainSection = Field(default_factory=TrainSection, description="Run, batch, precision.")
    loss: LossSection = Field(default_factory=LossSection, description="Losses.")
    log: LogSection = Field(default_factory=LogSection, description="What a run writes.")
    test: TestSection = Field(default_factory=TestSection, description="Evaluation.")
    promise: PromiseSection = Field(
        default_factory=PromiseSection, description="What `recommend-config` has said of the run."
    )

    @model_validator(mode="after")
    def _without_contradictions(self) -> Config:
        found = contradictions(self.data, self.model, self.train, self.loss, self.promise)
        if found:
            told = "\n".join(f"{item.keys[0]}: {item.message}" for item in found)
            raise PydanticCustomError(CONTRADICTION, "{told}", {"told": told, "found": found})
        return self


@dataclass(frozen=True)
class Key:
    """A key that takes a value.

    Attributes:
        name: dotted path of YAML keys, such as ``TRAIN.OPTIM.LR``.
        default: as plain YAML values.
        expected: the values it takes, in words.
        description: what it is for, with its unit.
    """

    name: str
    default: Any
    expected: str
    description: str


def as_values(config: Config) -> dict[str, Any]:
    """Return nested plain values under their YAML keys; `Config.model_validate` reads them back."""
    return config.model_dump(mode="json", by_alias=True)


def flat_values(config: Config) -> dict[str, Any]:
    """Return every key's value as a plain one, by dotted name, in the order of the schema."""
    return dict(_leaves(as_values(config), ""))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a configuration file."""
    return {"$schema": DIALECT, **Config.model_json_schema(by_alias=True)}


@functools.cache
def known_keys() -> Mapping[str, Key]:
    """Return every key that takes a value, by dotted name, in the order of the schema."""
    schema = Config.model_json_schema(by_alias=True)
    defaults = flat_values(Config())
    return {
        name: Key(name, defaults[name], _expectation(field), field.get("description", ""))
        for name, field in _fields(schema, schema["$defs"], "")
    }


def shown(value: Any) -> str:
    """Return a value of YAML as a message quotes it, cut where it is long."""
    if isinstance(value, dict):
        return "a mapping"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _leaves(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _fields(
    schema: dict[str, Any], definitions: dict[str, Any], prefix: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema["properties"].items():
        if "$ref" in field:
            section = definitions[field["$ref"].rpartition("/")[2]]
            yield from _fields(section, definitions, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _expectation(field: dict[str, Any]) -> str:
    """Return in words what a field of the JSON Schema allows."""
    if "anyOf" in field:
        return " or ".join(_expectation(choice) for choice in field["anyOf"])
    if "const" in field:
        return str(field["const"])
    if "enum" in field:
        return f"one of {', '.join(map(str, field['enum']))}"
    kind = field["type"]
    if kind in ("integer", "number"):
        return _number(field)
    if kind == "array":
        return _list(field)
    if kind == "string":
        if "examples" in field:
            return f"text such as {field['examples'][0]}"
        return "a path" if field.get("format") == "path" else "text"
    return {"boolean": "true or false", "null": "null"}[kind]


def _number(field: dict[str, Any]) -> str:
    words = "a whole number" if field["type"] == "integer" else "a number"
    if "minimum" in field and "maximum" in field:
        words += f" from {field['minimum']:g} to {field['maximum']:,}"
    elif "minimum" in field:
        words += f" of at least {field['minimum']:g}"
    if "exclusiveMinimum" in field:
        words += f" above {field['exclusiveMinimum']:g}"
        if "maximum" in field:
            words += f" and of at most {field['maximum']:g}"
    if "exclusiveMaximum" in field:
        words += f" and below {field['exclusiveMaximum']:g}"
    return words + (f", divisible by {field['multipleOf']}" if "multipleOf" in field else "")


def _list(field: dict[str, Any]) -> str:
    if "prefixItems" in field:
        items = field["prefixItems"]
        return f"a list of {len(items)} values, each {_expectation(items[0])}"
    least, most = field.get("minItems"), field.get("maxItems")
    count = f"{most} values" if most is not None and most == least else "values"
    return f"a list of {count}, each {_expectation(field['items'])}"
