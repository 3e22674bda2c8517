import numpy as np
import pytest

from deblurkit.analysis import bootstrap
from deblurkit.analysis.bootstrap import Interval, Pair, interval, means_only, memory_of, resample


def autoregressive(trials, size, memory, *, seed=0):
    """Rows of x[t] = memory * x[t - 1] + noise around 400 with a standard deviation of 10."""
    noise = np.random.default_rng(seed).normal(size=(size + 100, trials))
    values = np.zeros_like(noise)
    for at in range(1, len(noise)):
        values[at] = memory * values[at - 1] + noise[at]
    return 400 + 10 * np.sqrt(1 - memory**2) * values[100:].T


@pytest.mark.parametrize(("size", "memory"), [(40, 0.0), (120, 0.0), (120, 0.3), (120, 0.6), (400, 0.9)])
def test_nine_in_ten_intervals_and_more_hold_the_truth(size, memory):
    before = autoregressive(200, size, memory, seed=1)
    after = 1.05 * autoregressive(200, size, memory, seed=2)
    held = 0
    for a, b in zip(before, after, strict=True):
        pair = Pair(*(resample(x[:, None], draws=300, seed=seed) for seed, x in ((0, a), (1, b))))
        held += not pair.derive(lambda x, y: y[..., 0] / x[..., 0]).excludes(1.05)
    assert 0.88 <= held / 200 <= 0.99


def test_draws_without_memory_spread_by_the_root_of_the_number():
    values = np.random.default_rng(0).normal(400, 10, size=400)
    drawn = resample(values[:, None])
    assert drawn.draws.std() == pytest.approx(values.std() / np.sqrt(400), rel=0.15)


def test_memory_widens_an_interval():
    def width(memory):
        return np.ptp(np.quantile(resample(autoregressive(1, 1000, memory).T).draws, [0.025, 0.975]))

    assert width(0.9) == pytest.approx(np.sqrt(1.9 / 0.1) * width(0.0), rel=0.4)  # variance (1 + m) / (1 - m)


def test_blocks_are_as_long_as_the_formula_for_an_autoregressive_series_says():
    best = (6 * 0.9**2 / (1 - 0.9**2) ** 2 * 1000) ** (1 / 3)  # Politis and White (2004) with G, D of AR(1)
    found = [memory_of(series).block for series in autoregressive(30, 1000, 0.9)]
    assert np.mean(found) == pytest.approx(best, rel=0.3)


def test_blocks_of_a_series_without_memory_are_the_cube_root_of_its_length():
    found = [memory_of(series).block for series in autoregressive(30, 1000, 0.0)]
    assert np.median(found) == 10
    assert memory_of(np.full(1000, 3.0)).block == 1


def test_means_are_weighted_by_the_steps_of_a_row():
    columns = np.array([[10.0, 1.0], [40.0, 1.0]])
    weights = np.array([3.0, 1.0])
    assert resample(columns, weights).means == pytest.approx([17.5, 1.0])
    assert means_only(columns, weights).means == pytest.approx([17.5, 1.0])


def test_a_long_run_is_cut_into_stretches_that_keep_its_mean_and_its_spread(monkeypatch):
    values = autoregressive(1, 6001, 0.5).T
    whole = resample(values).draws.std()
    monkeypatch.setattr(bootstrap, "MOST_CELLS", 600)
    cut = resample(values)
    assert cut.means[0] == pytest.approx(values.mean())
    assert cut.draws.std() == pytest.approx(whole, rel=0.2)


def test_no_mean_lies_outside_of_the_values():
    steps = np.array([100.0] * 25 + [9_000.0])
    drawn = resample(steps[:, None]).draws
    assert drawn.min() >= 100
    assert drawn.max() <= 9_000


def test_only_deciding_columns_choose_the_blocks():
    columns = np.column_stack([autoregressive(1, 500, 0.0)[0], autoregressive(1, 500, 0.95)[0]])
    assert resample(columns, deciding=np.array([True, False])).blocks > 2 * resample(columns).blocks


def test_one_seed_gives_one_interval():
    values = autoregressive(1, 100, 0.2).T
    assert (resample(values, seed=(3, 1)).draws == resample(values, seed=(3, 1)).draws).all()
    assert (resample(values, seed=(3, 1)).draws != resample(values, seed=(3, 2)).draws).any()


def test_nothing_cannot_be_resampled():
    with pytest.raises(ValueError, match="no row"):
        resample(np.empty((0, 2)))


@pytest.mark.parametrize(("freedom", "quantile"), [(5, 2.5706), (10, 2.2281), (30, 2.0423), (1000, 1.9623)])
def test_quantiles_of_student_are_those_of_the_printed_table(freedom, quantile):
    assert bootstrap._student(freedom) == pytest.approx(quantile, rel=1e-3)


def test_an_interval_without_bounds_excludes_nothing():
    assert not Interval(5.0).excludes(0.0)
    assert not Interval(5.0).known
    assert Interval(5.0, 4.0, 6.0).excludes(3.9)
    assert not Interval(5.0, 4.0, 6.0).excludes(4.0)
    assert interval(0.5, np.linspace(0, 1, 1001)) == Interval(0.5, pytest.approx(0.025), pytest.approx(0.975))


def test_a_figure_of_means_alone_has_no_bounds():
    side = means_only(np.array([[2.0], [4.0]]), np.ones(2))
    assert Pair(side, side).derive(lambda a, b: a[..., 0] + b[..., 0]) == Interval(6.0)
