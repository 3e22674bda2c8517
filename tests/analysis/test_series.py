import numpy as np
import pytest

from deblurkit.analysis.series import block_medians, spread_of, trend

STEPS = np.arange(4_000.0)


def test_a_straight_line_is_found_exactly():
    found = trend(100 + 0.02 * STEPS, STEPS)
    assert found.per_1000_steps == pytest.approx(20)
    assert (found.low, found.high) == pytest.approx((20, 20))
    assert found.share == pytest.approx(0.02 * 3_999 / (100 + 0.02 * 1_999.5))  # rise / mean, by hand


def test_single_values_do_not_bend_the_line():
    values = 100 + 0.02 * STEPS
    values[::37] *= 40
    assert trend(values, STEPS).per_1000_steps == pytest.approx(20, rel=0.01)


def test_the_interval_covers_the_truth_where_noise_lingers(ar1):
    """A slope of 0.5 in 1,000 in noise that keeps 0.9 of the value before: 95 % should hold it, 85 % must."""
    held = 0
    for seed in range(100):
        found = trend(100 + 0.0005 * STEPS + ar1(seed, len(STEPS), 0.9, 3.0), STEPS)
        held += found.low <= 0.5 <= found.high
    assert held >= 85


def test_a_trend_in_little_noise_is_shown_and_none_in_a_flat_series(ar1):
    assert trend(100 + 0.002 * STEPS + ar1(0, len(STEPS), 0.5, 3.0), STEPS).is_shown
    assert not trend(np.full(len(STEPS), 7.0), STEPS).is_shown


def test_seven_values_are_too_few():
    assert trend(np.arange(7.0), np.arange(7.0)) is None
    assert trend(np.arange(8.0), np.zeros(8)) is None  # all at one place


def test_blocks_by_hand():
    middles, medians = block_medians(np.arange(6.0), np.array([1.0, 9, 2, 4, 4, 100]), most=2)
    assert middles.tolist() == [1.0, 4.0]
    assert medians.tolist() == [2.0, 4.0]


def test_spread_is_the_deviation_of_normal_values_and_sees_no_outliers():
    values = np.random.default_rng(0).normal(5, 2, 50_000)
    values[:5_000] = 1e9
    assert spread_of(values) == pytest.approx(2, rel=0.15)
