import numpy as np

from deblurkit.analysis.report import analyze
from deblurkit.render.analysis_page.course import course_of


def test_steps_of_unknown_length_are_left_out(make_report):
    report = make_report({"forward": [1.0, 2.0, 3.0]}, steps=[4, 5, 6])
    course = course_of(report)
    assert course.step_ms.tolist() == [1.0, 2.0, 3.0]
    assert course.place.positions.tolist() == [4, 5, 6]
    assert (course.each, course.size_of(course.bins(2))) == ("Each step", "1 steps")


def test_a_single_step_is_no_course(make_report):
    assert course_of(make_report({"forward": [1.0]})) is None


def test_stretches_tell_how_many_lines_share_a_point(make_log):
    log = make_log({"forward": np.ones(1_000)})
    log.steps["count"] = 100
    course = course_of(analyze(log))
    assert course.size_of(course.bins(300)) == "3 or 4 lines of the log"
    assert course.place.by_number
