import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.statistics import (
    epoch_table,
    module_table,
    phase_table,
    quantiles,
    scalar_table,
    spread,
    steps_back,
    warmup_length,
    weighted_mean,
)


@pytest.mark.parametrize(
    ("lengths", "warmup"),
    [
        ([900, 400, 100, 100, 100, 100], 2),
        ([300, 100, 100], 0),  # three times the median, not more
        ([100, 900, 100, 100], 0),  # not at the front
        ([900, 100], 0),  # too few to tell
    ],
)
def test_warmup_is_a_run_at_the_front(lengths, warmup):
    assert warmup_length(pd.Series(lengths, dtype="float64")) == warmup


def test_steps_back_counts_resumes():
    assert steps_back(pd.Series([1, 2, 3, 2, 3, 3])) == 2


def test_spread_by_a_plain_rule():
    # 0..100: the 95th percentile of 101 evenly spaced values is the value at place 95
    assert spread(pd.Series(np.arange(101.0))) == {
        "mean": 50.0,
        "p50": 50.0,
        "p95": 95.0,
        "p99": 99.0,
        "min": 0.0,
        "max": 100.0,
    }


def test_phases_add_up_to_the_step():
    times = pd.DataFrame({"a": [10.0, 30.0], "a/x": [5.0, 5.0], "b": [np.nan, 20.0]})
    step_ms = pd.Series([20.0, 60.0])
    table = phase_table(times, step_ms, pd.Series([10.0, 10.0]))
    # by hand: 80 ms in all; a 40, b 20, unaccounted 20
    assert table["share"].to_dict() == pytest.approx({"a": 0.5, "b": 0.25, "unaccounted": 0.25})
    assert table["mean_ms"].sum() == pytest.approx(step_ms.mean())
    assert table.loc["b", "p50_ms"] == 20.0  # of the one step that measured it
    assert table["measured"].to_dict() == {"a": 2, "b": 1, "unaccounted": 2}


def test_shares_add_to_one_for_random_steps():
    generator = np.random.default_rng(0)
    times = pd.DataFrame(generator.exponential(10, (200, 5)), columns=list("abcde"))
    gaps = pd.Series(generator.exponential(1, 200))
    assert phase_table(times, times.sum(axis=1) + gaps, gaps)["share"].sum() == pytest.approx(1)


def test_modules_keep_what_their_children_do_not_take():
    times = pd.DataFrame({"a": [10.0], "b": [50.0], "b/x": [20.0], "b/y": [25.0], "b/y/z": [30.0]})
    table = module_table(times, pd.Series([60.0]))
    assert table.index.tolist() == ["b", "b/y", "b/y/z", "b/x", "a"]
    assert table["exclusive_ms"].tolist() == [5.0, 0.0, 30.0, 20.0, 10.0]
    assert table["depth"].tolist() == [0, 1, 2, 1, 0]
    assert table.loc["b", "share"] == pytest.approx(50 / 60)


def test_rows_that_stand_for_several_steps_count_as_many():
    generator = np.random.default_rng(1)
    values, counts = generator.normal(100, 9, 40), generator.integers(1, 6, 40)
    rows, weights = pd.Series(values), pd.Series(counts.astype(float))
    each = np.repeat(values, counts)  # the steps that the rows stand for, one by one
    assert weighted_mean(rows, weights) == pytest.approx(each.mean())
    at = [0.0, 0.01, 0.3, 0.5, 0.95, 1.0]
    assert quantiles(rows, at, weights) == pytest.approx(np.quantile(each, at))
    table = phase_table(pd.DataFrame({"a": values}), 2 * rows, None, weights)
    assert table.loc["a", ["mean_ms", "share", "measured"]].tolist() == pytest.approx(
        [each.mean(), 0.5, len(each)]
    )


def test_a_log_without_phases_has_an_empty_table():
    nothing = pd.DataFrame(index=range(3))
    assert phase_table(nothing, pd.Series([1.0] * 3), pd.Series([1.0] * 3)).empty
    assert module_table(nothing, pd.Series([1.0] * 3)).empty


def test_epochs_by_hand():
    epochs, lengths = pd.Series([1.0, 1, 2, 2, np.nan]), pd.Series([30.0, 10, 40, 20, 99])
    table = epoch_table(epochs, lengths)
    assert table.to_dict("index") == {
        1.0: {"steps": 2, "mean_ms": 20.0, "p50_ms": 20.0, "first_ms": 30.0},
        2.0: {"steps": 2, "mean_ms": 30.0, "p50_ms": 30.0, "first_ms": 40.0},
    }
    assert epoch_table(pd.Series([np.nan]), pd.Series([1.0])).empty


def test_numbers_beside_the_steps_by_hand():
    frame = pd.DataFrame({"step": [1, 2, 3, 4], "value": [3.0, np.nan, np.inf, 1.0]})
    assert scalar_table({"loss": frame}).loc["loss"].to_dict() == {
        "count": 2,
        "first": 3.0,
        "last": 1.0,
        "min": 1.0,
        "max": 3.0,
        "not_finite": 2,
    }
    lost = scalar_table({"loss": frame.iloc[1:3]})
    assert lost.loc["loss", "count"] == 0
    assert lost.loc["loss", ["first", "last"]].isna().all()
