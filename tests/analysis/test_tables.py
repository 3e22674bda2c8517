import math

import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis import tables
from deblurkit.analysis.tables import StepRows, is_duration, is_step
from deblurkit.errors import DeblurkitError


def test_a_name_missing_from_a_step_is_not_measured_rather_than_zero():
    rows = StepRows()
    rows.add(1, 10.0, {"a": 1.0}, wall_known=True)
    rows.add(2, 20.0, {"b": 2.0}, wall_known=False)
    rows.add(3, math.nan, {"a": 3.0}, wall_known=False)
    steps, times = rows.frames()
    assert steps["step"].tolist() == [1, 2, 3]
    assert steps["wall_known"].tolist() == [True, False, False]
    assert times["a"].isna().tolist() == [False, True, False]
    assert times["b"].isna().tolist() == [True, False, True]


def test_no_log_may_have_a_new_name_in_every_step(monkeypatch):
    monkeypatch.setattr(tables, "MOST_NAMES", 3)
    rows = StepRows()
    rows.add(1, 1.0, {"a": 1.0, "b": 1.0, "c": 1.0}, wall_known=False)
    with pytest.raises(DeblurkitError, match="3 different row names"):
        rows.add(2, 1.0, {"d": 1.0}, wall_known=False)


def test_a_log_that_is_long_enough_has_no_room_for_many_names(monkeypatch):
    monkeypatch.setattr(tables, "_MOST_VALUES", 10)
    rows = StepRows()
    for step in range(6):
        rows.add(step, 1.0, {"a": 1.0}, wall_known=False)
    with pytest.raises(DeblurkitError, match="1 different row names"):
        rows.add(7, 1.0, {"b": 1.0}, wall_known=False)


@pytest.mark.parametrize("many", [0, 1 << 20])
def test_steps_one_by_one_and_many_at_a_time_are_the_same(monkeypatch, many):
    monkeypatch.setattr(tables, "_MANY_VALUES", many)
    monkeypatch.setattr(tables, "_RESERVED", 4)
    values = np.array([[1.5, np.nan, 3.25, 4.0, 5.0], [np.nan, np.nan, 6.0, np.nan, 7.0]])
    one, all_at_once = StepRows(), StepRows()
    one.add(0, 9.0, {"z": 1.0}, wall_known=True)
    all_at_once.add(0, 9.0, {"z": 1.0}, wall_known=True)
    for at in range(5):
        known = {name: value for name, value in zip("ab", values[:, at], strict=True) if value == value}
        one.add(at + 1, at * 10.0, known, wall_known=at > 2, unix_s=1.7e9 + at)
    all_at_once.add_many(
        np.arange(1, 6),
        np.arange(5) * 10.0,
        {"a": values[0], "b": values[1]},
        wall_known=np.arange(5) > 2,
        unix_s=1.7e9 + np.arange(5),
    )
    for first, second in zip(one.frames(), all_at_once.frames(), strict=True):
        pd.testing.assert_frame_equal(first, second)
    steps, times = one.frames()
    assert steps["step"].tolist() == list(range(6)) and one.last_step == 5
    assert steps["unix_s"].isna().tolist() == [True] + [False] * 5
    assert steps["count"].tolist() == [1] * 6
    np.testing.assert_array_equal(times[["a", "b"]].to_numpy()[1:], values.T)
    assert times["z"].notna().tolist() == [True] + [False] * 5


def test_a_large_log_takes_half_the_memory_and_a_small_one_can_be_written_to(monkeypatch):
    monkeypatch.setattr(tables, "_MANY_VALUES", 3)
    rows = StepRows()
    for step in range(5):
        rows.add(step, 1 / 3, {"a": 1 / 3}, wall_known=False)
        if step == 1:
            steps, times = rows.frames()
            times.loc[0, "a"] = steps.loc[0, "unix_s"] = 5.0
            assert times.dtypes["a"] == "float64"
    steps, times = rows.frames()
    assert times.dtypes["a"] == "float32"
    assert times["a"].tolist() == [np.float32(1 / 3)] * 5
    assert steps["total_ms"].tolist() == [1 / 3] * 5


def test_no_step_gives_empty_tables():
    steps, times = StepRows().frames()
    assert len(steps) == len(times) == 0
    assert list(steps) == ["step", "total_ms", "wall_known", "unix_s", "count", "epoch"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, True, "1", None, 1e12])
def test_what_is_no_time(value):
    assert not is_duration(value)


@pytest.mark.parametrize("value", [True, 1.0, -1, 10**15, "1"])
def test_what_is_no_step_number(value):
    assert not is_step(value)
