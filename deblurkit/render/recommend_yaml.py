"""A recommendation as the YAML that `train` takes: the whole configuration, and why each line is so."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from deblurkit.render.config import config_as_yaml
from deblurkit.render.recommend import facts
from deblurkit.tuning.recommend.promised import promised_values
from deblurkit.tuning.recommend.records import Recommendation, Row
from deblurkit.tuning.recommend.words import reasons

_PROMISED = "promised by recommend-config"


def recommendation_as_yaml(
    found: Recommendation, *, path: Path, command: str, date: str, origins: Mapping[str, str]
) -> str:
    """Return the recommended configuration with its promise, which `train` checks.

    Args:
        found: a recommendation that has a best.
        path: that it is to be written to, for the command that trains with it.
        command: that the recommendation was asked for by.
        date: of today.
        origins: of the values that the start has, by dotted key, as `load_with_origins` returns them.

    Raises:
        ValueError: if nothing fits, so that there is nothing to write.
    """
    values = promised_values(found)
    if values is None or found.best is None:
        raise ValueError("nothing fits: there is no configuration to write")
    promised = {f"PROMISE.{key}": _PROMISED for key in values["PROMISE"]}
    comments = "".join(f"# {_one_line(line)}\n" for line in _comments(found, found.best, path, command, date))
    return comments + config_as_yaml(values, {**origins, **reasons(found), **promised})


def _comments(found: Recommendation, best: Row, path: Path, command: str, date: str) -> Iterator[str]:
    gpus = f" --gpus {best.candidate.devices}" if best.candidate.devices > 1 else ""
    yield f"deblurkit train --config {shlex.quote(str(path))}{gpus}"
    yield from facts(found)
    yield f"made on {date} by: {command}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
