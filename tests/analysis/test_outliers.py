import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.outliers import MOST, outliers, period_of


def steps_of(size=200, **planted):
    times = pd.DataFrame({"data": np.full(size, 2.0), "forward": 98 + np.linspace(0, 1, size)})
    lengths = times.sum(axis=1) + 1
    for place, (row, extra) in planted.items():
        at = int(place.removeprefix("at"))
        lengths[at] += extra
        if row is not None:
            times.loc[at, row] += extra
    return lengths, pd.Series(range(1, size + 1)), times


def test_outliers_come_with_the_row_that_grew_the_longest_first():
    found = outliers(*steps_of(at20=("data", 300.0), at90=(None, 900.0), at150=("forward", 60.0)))
    assert [(outlier.step, outlier.row) for outlier in found] == [(91, "unaccounted"), (21, "data")]
    assert found[1].ms == pytest.approx(401, abs=1)
    assert found[1].excess_ms == pytest.approx(300)


def test_a_step_is_held_against_the_level_around_it():
    lengths = pd.Series(np.repeat([100.0, 300.0], 100) + np.tile([0.0, 1.0], 100))
    lengths[20] = 290.0
    times = pd.DataFrame({"forward": lengths})
    numbers = pd.Series(range(200))
    assert [outlier.step for outlier in outliers(lengths, numbers, times, [100])] == [20]


def test_wide_tails_are_how_a_run_goes():
    lengths = pd.Series(np.random.default_rng(0).lognormal(4, 0.4, 2_000))
    assert outliers(lengths, pd.Series(range(2_000)), pd.DataFrame({"a": lengths})) == ()


def test_nineteen_steps_are_too_few_and_the_longest_hundred_enough():
    lengths, numbers, times = steps_of(at3=("data", 5_000.0))
    assert outliers(lengths[:19], numbers[:19], times[:19]) == ()
    many = pd.Series(np.where(np.arange(1_000) % 4 == 0, 1_000.0, 10.0))
    assert len(outliers(many, pd.Series(range(1_000)), pd.DataFrame({"a": many}))) == MOST


@pytest.mark.parametrize(
    ("numbers", "period"),
    [
        (range(500, 5_001, 500), 500),
        ([*range(500, 5_001, 500), 1_234], 500),  # one more between them
        ([500, 501, 1_000, 1_500, 1_501, 2_000, 2_500], 500),  # two in a row are one
        ([500, 1_002, 1_499, 2_001, 2_500], 500),  # a little early, a little late
        ([100, 200, 300], None),  # too few
        ([17, 230, 1_240, 1_999, 3_712, 3_900], None),
        ([100, 200, 300, 400, 5_000, 9_000, 9_001], None),  # a regular start, then nothing
        ([], None),
    ],
)
def test_period(numbers, period):
    assert period_of(list(numbers)) == period


def test_steps_at_random_keep_to_no_period():
    for seed in range(50):
        chosen = np.random.default_rng(seed).choice(5_000, 10, replace=False)
        assert period_of(chosen.tolist()) is None
