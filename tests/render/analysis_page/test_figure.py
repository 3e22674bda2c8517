import numpy as np
import pytest

from deblurkit.analysis.bins import bins
from deblurkit.analysis.run_axis import run_axis
from deblurkit.render.analysis_page.figure import Look, banded, powers_axis, step_axis

LOOK = Look("name", "#000000", "#cccccc", ",.0f", " ms")


def series(count, points):
    values = np.arange(1.0, count + 1)
    return banded(values, run_axis(np.arange(1, count + 1)), bins(count, points), LOOK)


def test_a_short_series_is_a_line_of_its_values():
    (line,) = series(20, 10)
    assert line["x"] == line["y"] == list(range(1, 21))


def test_a_long_series_has_a_band_of_its_range_around_its_means():
    low, high, line = series(1_000, 10)
    assert line["y"] == [50.5 + 100 * place for place in range(10)]  # means of 1 to 100, 101 to 200 ...
    assert low["y"] == [1 + 100 * place for place in range(10)]
    assert high["y"] == [100 + 100 * place for place in range(10)]
    assert line["customdata"][1] == (101, 200, 101, 200)
    assert high["fill"] == "tonexty"


@pytest.mark.parametrize(("low", "high"), [(0.013, 0.9), (300.0, 50_000.0), (1e-9, 1e6), (1e-300, 1e308)])
def test_an_axis_by_powers_of_ten_has_ticks_in_its_range(low, high):
    axis = powers_axis(low, high)
    start, end = (np.longdouble(10) ** edge for edge in axis["range"])
    assert start < low < high < end
    assert 3 <= sum(start <= tick <= end for tick in axis["tickvals"]) <= 12
    assert np.isfinite(axis["tickvals"]).all()


def test_an_axis_says_where_steps_are_counted_anew():
    assert step_axis(run_axis(np.array([1, 2])))["title"]["text"] == "step"
    assert "repeat" in step_axis(run_axis(np.array([1, 2, 1])))["title"]["text"]
