import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.partition import repair, top_level, with_parents
from deblurkit.analysis.tables import RunLog
from deblurkit.timing.partition import role_of


def log_of(rows, *, total, wall=False):
    times = pd.DataFrame(rows, dtype="float64")
    totals = [total] * len(times) if np.isscalar(total) else total
    numbers = range(1, len(times) + 1)
    steps = pd.DataFrame({"step": numbers, "total_ms": totals, "wall_known": [wall] * len(times)})
    return RunLog("x", "timing-text" if wall else "timing-text-seed", steps, times, len(times))


SEED = {
    "前向传播总耗时": 280.0,
    "VRT处理": 150.0,
    "VRT处理/Stage1": 25.0,
    "Spike时间自注意力": 80.0,
    "VRT融合": 60.0,
    "Spike编码器": 50.0,
}


def test_the_seeds_sample_becomes_a_tree_of_280_ms():
    # by hand: 280 = 150 + 80 + 50, and the 60 of the fusion lie within the 150
    partition = repair(log_of([SEED], total=620.0))
    assert partition.step_ms.tolist() == [280.0]
    assert partition.unaccounted_ms is None
    assert set(partition.times.columns) == {
        "前向传播总耗时",
        "前向传播总耗时/VRT处理",
        "前向传播总耗时/VRT处理/Stage1",
        "前向传播总耗时/VRT处理/VRT融合",
        "前向传播总耗时/Spike时间自注意力",
        "前向传播总耗时/Spike编码器",
    }
    notes = " ".join(partition.notes)
    assert "620 ms a step; with each time counted once it is 280 ms" in notes
    assert "no wall time" in notes


def test_known_names_stay_beside_a_parent_that_is_too_short_for_them():
    partition = repair(log_of([{"forward": 100.0, "VRT": 150.0}], total=250.0))
    assert partition.step_ms.tolist() == [250.0]
    assert any("Left beside forward" in note for note in partition.notes)


def test_known_names_nest_in_a_log_with_wall_time_too():
    partition = repair(log_of([{"forward": 100.0, "VRT": 90.0}] * 2, total=400.0, wall=True))
    assert partition.unaccounted_ms is not None
    assert partition.unaccounted_ms.tolist() == [300.0, 300.0]


def test_an_unknown_row_that_keeps_to_the_sum_of_others_contains_them():
    rows = [
        {"net": a + b + 0.1, "head": a, "body": b, "loader": 7.0} for a, b in [(10, 30), (14, 25), (9, 44)]
    ]
    partition = repair(log_of(rows, total=0.0))
    assert list(top_level(partition.times).columns) == ["net", "loader"]
    assert "net/head" in partition.times
    assert partition.step_ms.tolist() == pytest.approx([row["net"] + 7.0 for row in rows])


def test_a_sum_that_holds_in_some_steps_only_is_chance():
    rows = [{"net": 40.0, "head": a, "body": 30.0} for a in (10.0, 25.0, 2.0, 10.0)]
    assert list(repair(log_of(rows, total=0.0)).times.columns) == ["net", "head", "body"]


@pytest.mark.parametrize(("whole", "nested"), [(40.1, True), (40.6, False)])
def test_one_step_is_evidence_only_for_an_exact_sum(whole, nested):
    partition = repair(log_of([{"net": whole, "head": 10.0, "body": 30.0}], total=0.0))
    assert ("net/head" in partition.times) is nested


def test_standard_phases_never_contain_each_other():
    rows = [{"forward": 180.0 + n, "loss": 20.0, "backward": 200.0 + n, "optimizer": 5.0} for n in range(9)]
    rows += [{"数据加载": 180.0, "损失": 20.0, "反向传播": 200.0}]
    for chosen in (rows[:9], rows[9:] * 3):
        partition = repair(log_of(chosen, total=0.0))
        assert not any("/" in name for name in partition.times.columns)


def test_a_log_whose_rows_fit_its_wall_time_is_left_alone():
    rows = [{"net": 40.0 + n, "head": 10.0, "body": 30.0 + n} for n in range(5)]
    assert list(repair(log_of(rows, total=200.0, wall=True)).times.columns) == ["net", "head", "body"]


def test_rows_beyond_the_wall_time_are_named_and_shares_stay_shares():
    partition = repair(log_of([{"a": 70.0, "b": 60.0}] * 4, total=100.0, wall=True))
    assert partition.step_ms.tolist() == [130.0] * 4
    assert partition.unaccounted_ms is not None
    assert partition.unaccounted_ms.tolist() == [0.0] * 4
    assert any("exceed the wall time by 30.0 ms" in note for note in partition.notes)


def test_time_that_a_program_calls_unaccounted_is_not_counted_twice():
    partition = repair(log_of([{"a": 70.0, "unaccounted/gap": 10.0}], total=100.0, wall=True))
    assert partition.times.columns.tolist() == ["a"]
    assert partition.unaccounted_ms is not None
    assert partition.unaccounted_ms.tolist() == [30.0]


def test_a_parent_that_was_not_logged_is_the_sum_of_its_children():
    times = with_parents(pd.DataFrame({"a/b/c": [1.0, 2.0], "a/d": [4.0, np.nan]}))
    assert times["a/b"].tolist() == [1.0, 2.0]
    assert times["a"].tolist() == [5.0, 2.0]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("前向传播总耗时", "forward"),
        ("Data_Time", "data"),
        ("数据加载耗时", "data"),
        ("optimizer step", "optimizer"),
        ("all_reduce", "all_reduce"),
        ("VRT处理", None),
        ("time", None),
    ],
)
def test_roles(name, role):
    assert role_of(name) == role


def test_a_wait_for_data_alone_is_no_step():
    partition = repair(log_of([{"data": 0.1}] * 3, total=np.nan))
    assert partition.step_ms.isna().all()


def test_a_printed_total_beside_the_wait_for_data_is_a_step_of_two_parts():
    partition = repair(log_of([{"data": 30.0}] * 3, total=100.0))
    assert partition.step_ms.tolist() == [100.0] * 3
    assert partition.times["compute"].tolist() == [70.0] * 3
    assert partition.unaccounted_ms is None  # what is printed need not be all


def test_a_log_of_totals_alone_has_steps_without_parts():
    steps = log_of([{"a": 1.0}] * 3, total=100.0).steps
    bare = RunLog("x", "basicsr", steps, pd.DataFrame(index=steps.index), 3)
    assert repair(bare).step_ms.tolist() == [100.0] * 3


def test_a_log_without_a_step():
    empty = RunLog("x", "basicsr", log_of([{"a": 1.0}], total=1.0).steps.iloc[:0], pd.DataFrame(), 0)
    assert len(repair(empty).step_ms) == 0
