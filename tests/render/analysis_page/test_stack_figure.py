import numpy as np
import pytest

from deblurkit.render.analysis_page.course import course_of
from deblurkit.render.analysis_page.stack_figure import stack_figure


def figure_of(report, points=500):
    return stack_figure(report, course_of(report), points=points)


def test_the_areas_add_up_to_the_step_in_the_order_of_the_log(make_report):
    times = {"数据加载": [1.0, 2.0], "forward": [10.0, 20.0], "forward/Stage1": [9.0, 9.0]}
    figure = figure_of(make_report(times, unaccounted=3.0))
    assert [area["name"] for area in figure.data] == ["数据加载", "forward", "unaccounted"]
    assert np.sum([area["y"] for area in figure.data], axis=0).tolist() == [14.0, 25.0]


def test_a_phase_that_a_step_did_not_measure_takes_nothing_of_it(make_report):
    figure = figure_of(make_report({"data": [1.0, np.nan], "forward": [10.0, 10.0]}))
    assert figure.data[0]["y"] == [1, 0]


def test_many_phases_become_ten_and_the_rest(make_report):
    times = {f"row {number}": [100.0 - number] * 3 for number in range(14)}
    figure = figure_of(make_report(times))
    assert len(figure.data) == 11
    assert figure.data[-1]["name"] == "4 shorter phases"
    assert figure.data[-1]["y"] == [90 + 89 + 88 + 87] * 3


def test_one_long_step_does_not_press_the_others_flat(make_report):
    figure = figure_of(make_report({"forward": [100.0] * 50 + [5_000.0]}))
    assert figure.layout["yaxis"]["range"] == [0, pytest.approx(300.0)]
    assert "Cut off at 300 ms" in figure.about


def test_a_log_of_lengths_alone_has_no_phases(make_report):
    assert figure_of(make_report({}, wall_ms=np.array([5.0, 6.0]))) is None
