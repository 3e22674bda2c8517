import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.matched_rows import ALL_ELSE, TimedSteps, match, phase_key, timed_steps
from deblurkit.analysis.report import analyze
from deblurkit.analysis.tables import RunLog


def steps_of(*, wall=None, **phases):
    columns = {name: np.array(values, dtype=float) for name, values in phases.items()}
    sums = sum(columns.values())
    return TimedSteps(
        step_ms=sums if wall is None else np.array(wall, dtype=float),
        counts=np.ones(len(sums)),
        phases=columns,
        names={name: (name,) for name in columns},
        wall_known=wall is not None,
    )


def log_of(times, **steps):
    size = len(next(iter(times.values())))
    about = {"step": range(1, size + 1), "total_ms": [np.nan] * size, "wall_known": [False] * size}
    table = pd.DataFrame(about | steps).astype({"total_ms": "float64"})
    return RunLog("x.log", "timing-text", table, pd.DataFrame(times, dtype="float64"), size)


@pytest.mark.parametrize("name", ["forward", "Forward time", "前向传播", "前向传播总耗时", "fwd"])
def test_a_standard_phase_has_one_key_in_every_language(name):
    assert phase_key(name) == "forward"


def test_other_names_are_matched_without_case_and_separators():
    assert phase_key("EMA update") == phase_key("ema_update")


def test_columns_add_up_to_the_step():
    a = steps_of(data=[1, 2], forward=[10, 20], wall=[15, 25])
    b = steps_of(data=[3], forward=[10], wall=[14])
    rows = match(a, b)
    assert rows.keys == ("data", "forward", "unaccounted")
    assert rows.a.tolist() == [[15, 1, 10, 4], [25, 2, 20, 3]]
    assert rows.b.tolist() == [[14, 3, 10, 1]]
    assert rows.is_wall


def test_rows_of_one_log_are_part_of_all_else():
    rows = match(steps_of(data=[1], loss=[4], wall=[10]), steps_of(data=[1], wall=[10]))
    assert (rows.keys, rows.only_a, rows.only_b) == (("data", ALL_ELSE), ("loss",), ())
    assert rows.a.tolist() == rows.b.tolist() == [[10, 1, 9]]


def test_without_wall_time_in_both_a_step_is_what_both_name():
    rows = match(steps_of(data=[1], forward=[4], wall=[10]), steps_of(forward=[5], loss=[2]))
    assert (rows.keys, rows.only_a, rows.only_b, rows.is_wall) == (("forward",), ("data",), ("loss",), False)
    assert rows.a.tolist() == [[4, 4]]
    assert rows.b.tolist() == [[5, 5]]


def test_nothing_in_common_without_wall_time_is_no_match():
    assert match(steps_of(data=[1]), steps_of(forward=[5])) is None
    assert match(steps_of(data=[1], wall=[5]), steps_of(forward=[5], wall=[6])).keys == ()


def test_short_columns_do_not_decide_about_blocks():
    rows = match(steps_of(a=[1], b=[90], wall=[100]), steps_of(a=[1], b=[95], wall=[98]))
    assert rows.deciding.tolist() == [True, False, True, True]  # step, a 1 %, b 90 %, unaccounted 9 %


def test_names_of_one_phase_are_added_up_and_gaps_are_zero():
    steps = timed_steps(
        analyze(log_of({"data": [5.0, np.nan], "dataload": [1.0, 1.0], "前向": [10.0, 10.0]}))
    )
    assert steps.phases["data"].tolist() == [6.0, 1.0]
    assert steps.names["data"] == ("data", "dataload")
    assert steps.step_ms.tolist() == [16.0, 11.0]
    assert not steps.wall_known


def test_warmup_is_left_out_and_lines_count_for_their_steps():
    lines = log_of({"forward": [90.0, 10.0, 10.0, 11.0]}, count=[1, 50, 50, 50])
    steps = timed_steps(analyze(lines))
    assert steps.step_ms.tolist() == [10.0, 10.0, 11.0]
    assert steps.num_steps == 150
