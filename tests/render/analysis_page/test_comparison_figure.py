import numpy as np
import pytest

from deblurkit.analysis.compare import compare
from deblurkit.render.analysis_page.comparison_figure import comparison_figure


def noise(level, seed):
    return np.random.default_rng(seed).normal(level, 1.0, 400)


def test_each_phase_is_a_bar_with_its_interval(make_report):
    a = make_report({"data": noise(50, 0), "forward": noise(100, 1)})
    b = make_report({"数据加载": noise(20, 2), "forward": noise(100, 3)})
    comparison = compare(a, b)
    figure = comparison_figure(comparison)
    (bars,) = figure.data
    assert figure.layout["yaxis"]["ticktext"][0] == "data / 数据加载"
    assert -30.5 < bars["x"][0] < -29.5
    interval = comparison.steps.rows[0].difference
    assert bars["x"][0] - bars["error_x"]["arrayminus"][0] == pytest.approx(interval.low, abs=1e-2)
    assert bars["x"][0] + bars["error_x"]["array"][0] == pytest.approx(interval.high, abs=1e-2)
    assert bars["marker"]["color"][0] != bars["marker"]["color"][1]
    assert bars["text"][0].endswith("faster")


def test_logs_with_no_phase_in_common_have_no_picture(make_report):
    a, b = make_report({"data": [1.0]}), make_report({}, wall_ms=[5.0])
    assert comparison_figure(compare(a, b)) is None
