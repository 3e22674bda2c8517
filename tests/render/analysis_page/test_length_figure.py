from dataclasses import replace

import numpy as np
import pytest

from deblurkit.analysis.report import analyze
from deblurkit.analysis.series import Change, Outlier
from deblurkit.analysis.tables import Event
from deblurkit.render.analysis_page.course import course_of
from deblurkit.render.analysis_page.length_figure import length_figure


def figure_of(report, points=1_000):
    return length_figure(report, course_of(report), points=points)


def shapes(figure, kind):
    return [shape for shape in figure.layout["shapes"] if shape["type"] == kind]


def test_each_step_is_a_point_and_the_median_a_line(make_report):
    figure = figure_of(make_report({"forward": [90.0, 100.0, 130.0]}))
    assert figure.data[0]["y"] == [90, 100, 130]
    assert [shape["y0"] for shape in shapes(figure, "line")] == [100.0]
    assert figure.layout["yaxis"]["range"][0] == 0


def test_an_axis_that_one_step_would_press_flat_counts_by_powers_of_ten(make_report):
    axis = figure_of(make_report({"forward": [100.0] * 50 + [5_000.0]})).layout["yaxis"]
    assert axis["type"] == "log"
    assert 10 ** axis["range"][0] < 100 < 5_000 < 10 ** axis["range"][1]


def test_outliers_and_changes_stand_where_the_report_has_them(make_report):
    report = replace(
        make_report({"forward": np.full(100, 10.0)}),
        outliers=(Outlier(40, 99.0, "<b>data", 89.0),),
        changes=(Change(61, 10.0, 20.0, "forward"),),
    )
    line, levels, outliers = figure_of(report).data
    assert (outliers["x"], outliers["y"]) == ([40], [99])
    assert outliers["text"] == ["step 40: 99.0 ms<br>&lt;b&gt;data +89.0 ms"]
    assert (levels["x"], levels["y"]) == ([1, 61, 100], [10, 20, 20])
    assert len(line["x"]) == 100


def test_the_warm_up_is_shaded_up_to_the_first_step_that_counts(make_log):
    log = make_log({"forward": [900.0, 800.0, *[100.0] * 60]})
    (shade,) = shapes(figure_of(analyze(log)), "rect")
    assert (shade["x0"], shade["x1"]) == (1.0, 2.5)


def test_events_are_marks_below_the_steps(make_report):
    report = make_report(
        {"forward": np.full(100, 10.0)},
        events=(Event("validation", "v", 50, None, 2.0), Event("oom", "CUDA out of memory", 70)),
    )
    figure = figure_of(report)
    assert figure.layout["yaxis2"]["ticktext"] == ["oom (1)", "validation (1)"]
    assert figure.layout["xaxis"]["anchor"] == "y2"
    assert figure.layout["yaxis2"]["domain"][1] < figure.layout["yaxis"]["domain"][0]
    assert [trace["x"] for trace in figure.data if trace.get("yaxis") == "y2"] == [[70], [50]]


@pytest.mark.parametrize("points", [60, 1_000])
def test_no_line_has_more_than_twice_the_points(make_report, points):
    report = make_report({"forward": np.full(10_000, 10.0)})
    assert max(len(trace["x"]) for trace in figure_of(report, points).data) <= 2 * points


def test_after_a_resume_marks_stand_at_the_later_run(make_report):
    report = make_report(
        {"forward": np.full(8, 10.0)}, steps=[1, 2, 3, 4, 3, 4, 5, 6], events=(Event("oom", "x", 4),)
    )
    *_, mark = figure_of(report).data
    assert mark["x"] == [6]
