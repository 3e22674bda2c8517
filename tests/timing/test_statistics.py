import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurkit.timing import statistics
from deblurkit.timing.statistics import Statistics

SHARES = (0.0, 0.5, 0.95, 0.99, 1.0)


def of(values):
    row = Statistics()
    for value in values:
        row.add(value)
    return row


def test_figures_are_those_of_the_values():
    row = of((3.0, 1.0, 8.0))
    assert (row.count, row.mean, row.least, row.most) == (3, 4.0, 1.0, 8.0)


def test_before_the_first_value_figures_are_zero():
    assert (Statistics().mean, Statistics().quantiles((0.5,))) == (0.0, [0.0])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_quantiles_are_numpy_s(values):
    assert of(values).quantiles(SHARES) == pytest.approx(np.quantile(values, SHARES), abs=1e-6)


def test_a_long_run_keeps_a_sample_of_bounded_size_the_same_each_time(monkeypatch):
    monkeypatch.setattr(statistics, "MOST_VALUES", 1000)
    values = np.random.default_rng(0).gamma(2.0, 10.0, size=20_000)
    row, again = of(values), of(values)
    assert len(row._values) == 1000
    assert row.quantiles(SHARES) == again.quantiles(SHARES)
    # 1000 of 20 000: the rank of a quantile is within 4 standard errors, sqrt(q (1 - q) / 1000)
    for share in (0.5, 0.95):
        error = 4 * (share * (1 - share) / 1000) ** 0.5
        (found,) = row.quantiles((share,))
        assert np.quantile(values, share - error) <= found <= np.quantile(values, share + error)
    assert (row.count, row.least, row.most) == (20_000, values.min(), values.max())
    assert row.mean == pytest.approx(values.mean())
