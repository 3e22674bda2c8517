"""Steps out of scalars: from our own ``timing/…`` tags, or from the wall times between values of a tag."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblurkit.analysis.formats.tensorboard_tags import QUICK_LOOK, VALIDATION, Meaning
from deblurkit.analysis.tables import Event, StepRows, is_duration
from deblurkit.timing.records import UNACCOUNTED, Beside, clean_name

TIMING = "timing/"
_STEP = "step"
_LONGEST_TEXT = 300
_LONGEST_S = 1e8  # three years between two values: a clock that was set


class Series:
    """The values of one tag, in the order of the file.

    Args:
        tag: as it was written.
        meaning: what it stands for.
    """

    def __init__(self, tag: str, meaning: Meaning) -> None:
        self.tag = tag
        self.meaning = meaning
        self._steps = array("q")
        self._unix_s = array("d")
        self._values = array("d")

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: int, unix_s: float, value: float) -> None:
        """Append a value."""
        self._steps.append(step)
        self._unix_s.append(unix_s)
        self._values.append(value)

    def frame(self) -> pd.DataFrame:
        """Return ``step``, ``unix_s`` (NaN unknown) and ``value``, in the unit that its name promises."""
        columns = {"step": self._steps, "unix_s": self._unix_s, "value": self._values}
        frame = pd.DataFrame({name: np.array(values, dtype=np.float64) for name, values in columns.items()})
        frame["value"] *= self.meaning.scale
        return frame


class TimedSteps:
    """The steps that ``timing/…`` tags tell, rows first and ``timing/step`` last as in `timing.scalars`."""

    def __init__(self) -> None:
        self._rows = StepRows()
        self._unix_s = array("d")
        self._open: dict[str, float] = {}
        self._step = -1

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, tag: str, milliseconds: float, *, step: int, unix_s: float) -> None:
        """Take in a value of one of the tags; rows of a step whose end was lost are left out."""
        if step != self._step:
            self._open, self._step = {}, step
        name = clean_name(tag.removeprefix(TIMING))
        if not is_duration(milliseconds) or name == UNACCOUNTED:
            return
        if name != _STEP:
            self._open[name] = milliseconds
            return
        self._rows.add(step, milliseconds, self._open, wall_known=True)
        self._unix_s.append(unix_s)
        self._open = {}

    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return ``steps`` and ``times`` as `tables.RunLog` describes them."""
        steps, times = self._rows.frames()
        return steps.assign(unix_s=np.array(self._unix_s, dtype=np.float64)), times


@dataclass(frozen=True)
class Intervals:
    """What lies between the values of a tag.

    Attributes:
        steps: as `tables.RunLog` describes them; a row is the mean of the steps since the value before.
        beside: validations between two values, and by how much these were longer than others.
        tag: whose wall times were taken.
    """

    steps: pd.DataFrame
    beside: tuple[Beside, ...]
    tag: str


def steps_between(series: Sequence[Series], validations: Sequence[Event]) -> Intervals:
    """Return the steps between the values of the tag with most of them, but for averages and validations.

    Where a validation lies between two values, its time cannot be told from that of the steps: such a row is
    left out, and what it takes longer than the median counts as the validation's. Where that is so between
    most values, all rows stay.
    """
    training = [one for one in series if _is_training(one.meaning)]
    clock = max(training, key=len, default=Series("", Meaning("")))
    frame = clock.frame().dropna(subset=["unix_s"])
    step, unix_s = frame["step"].to_numpy(), frame["unix_s"].to_numpy()
    count, seconds = np.diff(step), np.diff(unix_s)
    moments = np.sort([event.unix_s for event in validations if event.unix_s is not None])
    inside = np.diff(np.searchsorted(moments, unix_s, side="right"))
    forward = (count > 0) & (seconds > 0) & (seconds < _LONGEST_S)
    mixed = forward & (inside > 0)
    if 2 * mixed.sum() > forward.sum():
        mixed[:] = False
    kept = forward & ~mixed
    total_ms = 1000 * seconds / np.where(count > 0, count, 1)
    usual_s = float(np.median(total_ms[kept])) / 1000 if kept.any() else 0.0
    beside = [
        Beside("validation", max(0.0, seconds[at] - usual_s * count[at]), int(inside[at]), int(step[at]))
        for at in np.flatnonzero(mixed)
    ]
    return Intervals(_rows(step[1:], total_ms, unix_s[1:], count, kept), tuple(beside), clock.tag)


def validations_of(series: Sequence[Series]) -> list[Event]:
    """Return the validations that scalars tell of: one for each step at which some were written."""
    found: dict[float, Event] = {}
    for one in series:
        if one.meaning.split in (VALIDATION, QUICK_LOOK):
            for step, unix_s, value in one.frame().itertuples(index=False, name=None):
                text = f"{one.tag}: {value:.6g}"[:_LONGEST_TEXT]
                when = None if math.isnan(unix_s) else unix_s
                found.setdefault(step, Event("validation", text, int(step), when))
    return sorted(found.values(), key=lambda event: event.unix_s or 0.0)


def with_epochs(steps: pd.DataFrame, epochs: pd.DataFrame | None) -> pd.DataFrame:
    """Return ``steps`` with the epoch that was logged last up to each of them."""
    if epochs is None or not epochs["step"].is_monotonic_increasing:
        return steps
    at = np.searchsorted(epochs["step"].to_numpy(), steps["step"].to_numpy(), side="right") - 1
    values = np.floor(epochs["value"].to_numpy())
    return steps.assign(epoch=np.where(at >= 0, values[at], np.nan))


def printed_phases(steps: pd.DataFrame, scalars: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the rows that a printed wait for data, and a printed time of the whole, give ``steps``."""
    phases: dict[str, pd.Series[float]] = {}
    if "data_ms" in scalars:
        phases["data"] = _values_at(steps, scalars["data_ms"])
        if "printed_ms" in scalars:
            rest = _values_at(steps, scalars["printed_ms"]) - phases["data"]
            phases["compute"] = rest.clip(lower=0.0)
    return pd.DataFrame(phases, index=steps.index, dtype="float64")


def _values_at(steps: pd.DataFrame, frame: pd.DataFrame) -> pd.Series[float]:
    """Return the last value at each step; NaN where there is none, or none that can be a time."""
    by_step = frame.drop_duplicates("step", keep="last").set_index("step")["value"]
    values = by_step.reindex(steps["step"]).set_axis(steps.index)
    return values.where(values.map(is_duration))


def _is_training(meaning: Meaning) -> bool:
    return meaning.split not in (VALIDATION, QUICK_LOOK) and not meaning.name.endswith("epoch")


def _rows(
    step: np.ndarray, total_ms: np.ndarray, unix_s: np.ndarray, count: np.ndarray, kept: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "step": step[kept].astype(np.int64),
            "total_ms": total_ms[kept],
            "wall_known": np.ones(int(kept.sum()), dtype=bool),
            "unix_s": unix_s[kept],
            "count": count[kept].astype(np.int64),
            "epoch": np.full(int(kept.sum()), np.nan),
        }
    )
