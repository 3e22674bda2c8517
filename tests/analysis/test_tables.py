import math

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


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, True, "1", None, 1e12])
def test_what_is_no_time(value):
    assert not is_duration(value)


@pytest.mark.parametrize("value", [True, 1.0, -1, 10**15, "1"])
def test_what_is_no_step_number(value):
    assert not is_step(value)
