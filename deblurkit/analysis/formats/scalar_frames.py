"""The numbers of a log as ``RunLog.scalars`` has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from deblurkit.analysis.formats.line_columns import Column, Floats

Between: TypeAlias = Mapping[str, Sequence[tuple[float, float, float, float]]]

_COLUMNS = ["step", "unix_s", "value"]
_LOSS = "loss"
_PART = "loss/"
_OTHER_PARTS = ("loss/validation", "loss/d_")  # of another sample, or of an adversary


def scalar_frames(
    of_steps: Mapping[str, Column], between: Between, *, step: Floats, unix_s: Floats
) -> dict[str, pd.DataFrame]:
    """Return a frame of ``step``, ``unix_s`` and ``value`` by name, in the order of the log.

    Args:
        of_steps: numbers that stood in the lines of steps.
        between: those of other lines: place, step, stamp, value; 1.5 is the place after the second step.
        step: number of each step's line.
        unix_s: its stamp.
    """
    frames = {}
    for name in (*of_steps, *(name for name in between if name not in of_steps)):
        tables = []
        if name in of_steps:
            rows, values = of_steps[name]
            tables.append(np.column_stack([rows, step[rows], unix_s[rows], values]))
        if name in between:
            tables.append(np.array(between[name], dtype=np.float64))
        table = np.concatenate(tables)
        order = np.argsort(table[:, 0], kind="stable")
        frames[name] = pd.DataFrame(table[order, 1:], columns=_COLUMNS)
    return frames


def with_total_loss(scalars: dict[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], str]:
    """Return the series with a ``loss`` where only its parts were printed, and a sentence about it.

    The only part is the loss itself; of several the sum is taken where each step has all of them.
    """
    parts = [name for name in scalars if name.startswith(_PART) and not name.startswith(_OTHER_PARTS)]
    if _LOSS in scalars or not parts:
        return scalars, ""
    if len(parts) == 1:
        return {_LOSS if name == parts[0] else name: frame for name, frame in scalars.items()}, ""
    first = scalars[parts[0]]
    if any(not scalars[name]["step"].equals(first["step"]) for name in parts):
        return scalars, ""
    total = first.assign(value=sum(scalars[name]["value"].to_numpy() for name in parts))
    return {**scalars, _LOSS: total}, f"No total is printed: loss is the sum of {', '.join(parts)}."
