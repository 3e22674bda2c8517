import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.changes import change_points, changes, lingering_noise


@pytest.mark.parametrize(
    ("size", "memory", "deviation"), [(5_000, 0.9, 3.0), (5_000, 0.0, 20.0), (300, 0.5, 3.0)]
)
def test_lingering_noise_has_no_changes(ar1, size, memory, deviation):
    found = [change_points(100 + ar1(seed, size, memory, deviation)) for seed in range(25)]
    assert sum(map(bool, found)) == 0


def test_heavy_tails_have_no_changes():
    for seed in range(15):
        generator = np.random.default_rng(seed)
        assert change_points(100 * generator.lognormal(0, 0.5, 3_000)) == []
        assert change_points(100 + np.abs(generator.standard_cauchy(3_000))) == []


@pytest.mark.parametrize(("factor", "memory", "leeway"), [(1.08, 0.0, 8), (1.15, 0.9, 25), (0.5, 0.5, 0)])
def test_a_new_level_is_found_at_its_step_in_spite_of_stalls(ar1, factor, memory, leeway):
    for seed in range(10):
        values = 100 + ar1(seed, 5_000, memory, 3.0)
        values[3_017:] *= factor
        values[::501] *= 12
        [place] = change_points(values)
        assert abs(place - 3_017) <= leeway


def test_a_while_that_is_slower_has_two_ends(ar1):
    values = 100 + ar1(0, 5_000, 0.5, 3.0)
    values[2_000:2_400] *= 1.5
    assert change_points(values) == [2_000, 2_400]


def test_a_slow_drift_is_no_change(ar1):
    values = (100 + ar1(0, 5_000, 0.5, 3.0)) * np.linspace(1, 1.5, 5_000)
    assert change_points(values) == []


def test_four_percent_and_thirty_nine_steps_are_too_little():
    assert change_points(np.repeat([100.0, 104.0], 500)) == []
    assert change_points(np.repeat([100.0, 107.0], 500)) == [500]
    assert change_points(np.repeat([100.0, 300.0], [20, 19])) == []


def test_the_row_that_explains_a_change_is_named():
    forward, data = np.repeat([60.0, 60.0], 100), np.repeat([30.0, 80.0], 100)
    times = pd.DataFrame({"forward": forward, "data": data, "data/read": data})
    numbers = pd.Series(range(1_001, 1_201))
    [change] = changes(times["forward"] + times["data"], numbers, times)
    assert (change.step, change.before, change.after, change.row) == (1_101, 90.0, 140.0, "data")


def test_where_no_row_explains_half_of_it_none_is_named():
    times = pd.DataFrame({name: np.repeat([30.0, 40.0], 100) for name in "abc"})
    [change] = changes(times.sum(axis=1), pd.Series(range(200)), times)
    assert (change.step, change.row) == (100, "")


def test_noise_that_lingers_counts_for_more_than_noise_that_does_not(ar1):
    """By the theory of AR(1) means of long stretches vary as if single values had sd * sqrt((1+m)/(1-m))."""
    alone = np.mean([lingering_noise(ar1(seed, 4_096, 0.0, 1.0)) for seed in range(10)])
    lingering = np.mean([lingering_noise(ar1(seed, 4_096, 0.8, 1.0)) for seed in range(10)])
    assert alone == pytest.approx(1, rel=0.35)
    assert lingering == pytest.approx(3, rel=0.35)  # sqrt(1.8 / 0.2)
