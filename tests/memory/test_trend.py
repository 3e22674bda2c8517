import math

import pytest

from deblurkit.memory.trend import Courses, seconds_left, thinned, trend_of

GIB = 2**30
NOW = 1.7e9  # Unix seconds, where a float has little left behind the point


def line(slope, *, start=100.0, noise=(), count=10, every=10.0):
    """Points of a line; ``noise`` is added in turn."""
    noise = noise or (0.0,)
    return [
        (NOW + every * number, start + slope * every * number + noise[number % len(noise)])
        for number in range(count)
    ]


def test_the_slope_of_a_line_is_found():
    trend = trend_of(line(-3.5))
    assert trend.per_second == pytest.approx(-3.5) and trend.is_clear


def test_a_slope_is_that_of_least_squares():
    """Against the normal equations of four points by hand (1.4 each ten seconds); the fifth is their mean."""
    trend = trend_of([(0.0, 6.0), (15.0, 7.0), (10.0, 5.0), (20.0, 7.0), (30.0, 10.0)])
    assert trend.per_second == pytest.approx(0.14)


@pytest.mark.parametrize("points", [[], line(1.0, count=4), line(1.0, every=3.0), [(NOW, 1.0)] * 6])
def test_few_points_make_no_line(points):
    assert trend_of(points) is None
    assert seconds_left(points) is None


def test_what_goes_up_and_down_is_not_clear():
    points = line(-0.1, noise=(20.0, -20.0, 5.0))
    assert not trend_of(points).is_clear
    assert seconds_left(points) is None


def test_what_stays_the_same_does_not_run_out():
    assert seconds_left(line(0.0)) is None
    assert not trend_of(line(0.0)).is_clear


def test_what_shrinks_runs_out_when_the_line_meets_nothing():
    points = line(-GIB / 60, start=60.0 * GIB, count=7)  # 60 s at 1 GiB a minute: 59 GiB are left
    assert seconds_left(points) == pytest.approx(59 * 60)


def test_what_grows_or_shrinks_in_a_year_does_not_run_out():
    assert seconds_left(line(5.0)) is None
    assert seconds_left(line(-1.0, start=3e7)) is None
    assert seconds_left(line(-1.0, start=3e5)) is not None


def test_courses_forget_what_is_old_and_what_is_gone():
    courses = Courses(window=10.0)
    for number in range(8):
        courses.add(NOW + 2 * number, {"RAM": number, "GPU 0": None, "run": 5} if number < 7 else {"RAM": 7})
    assert [value for _, value in courses.of("RAM")] == [2, 3, 4, 5, 6, 7]
    assert courses.of("run") == courses.of("GPU 0") == courses.of("never seen") == []


def test_many_values_become_means_of_stretches():
    assert thinned([1.0, 2.0, 3.0], 5) == [1.0, 2.0, 3.0]
    assert thinned([1.0, 3.0, 5.0, 7.0], 2) == [2.0, 6.0]
    shorter = thinned([float(number) for number in range(101)], 7)
    assert len(shorter) == 7 and math.isclose(sum(shorter) / 7, 50, rel_tol=0.05)
