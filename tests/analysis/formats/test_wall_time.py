import numpy as np
import pytest

from deblurkit.analysis.formats.wall_time import wall_time

NAN = float("nan")


def of(steps, stamps, *, own=None, since_step=None, tick_s=0.001):
    steps, stamps = np.array(steps), np.array(stamps, dtype=float)
    before = np.concatenate(([-1], steps))[:-1] if since_step is None else np.array(since_step)
    own = np.ones(len(steps), dtype=bool) if own is None else np.array(own)
    since_s = np.concatenate(([NAN], stamps))[:-1]
    return wall_time(steps, stamps, since_step=before, since_s=since_s, own=own, tick_s=tick_s)


def test_the_time_between_two_lines_is_shared_by_their_steps():
    wall = of([100, 200, 400], [0, 50, 150])
    assert wall.count.tolist() == [100, 100, 200]
    assert wall.step_ms.tolist() == [pytest.approx(NAN, nan_ok=True), 500, 500]
    assert wall.follows.tolist() == [False, True, True]


def test_the_first_line_stands_for_the_usual_number_or_for_all_before_it():
    assert of([100, 200, 300], [0, 1, 2]).count.tolist() == [100, 100, 100]
    assert of([1, 100, 200, 300], [0, 1, 2, 3]).count.tolist() == [1, 99, 100, 100]
    assert of([5000, 5100, 5200], [0, 1, 2]).count.tolist() == [100, 100, 100]
    assert of([7], [0]).count.tolist() == [1]
    assert of([0, 50, 100], [0, 1, 2]).count.tolist() == [1, 50, 50]


def test_a_resume_or_a_gap_is_no_interval():
    wall = of([100, 200, 300, 200, 300, 9000, 9100], [0, 10, 20, 30, 40, 50, 60])
    assert np.isnan(wall.step_ms).tolist() == [True, False, False, True, False, True, False]
    assert wall.count.tolist() == [100] * 7


def test_a_clock_that_goes_back_and_a_missing_stamp_tell_nothing():
    wall = of([1, 2, 3, 4, 5], [0, 10, 5, NAN, 20])
    assert np.isnan(wall.step_ms).tolist() == [True, False, True, True, True]


def test_an_interval_with_a_validation_is_beside_the_steps():
    wall = of([10, 20, 30, 40], [0, 5, 10, 75], own=[True, True, True, False])
    assert np.isnan(wall.step_ms[3])
    assert wall.beside_s[3] == pytest.approx(60)  # 65 s less ten steps of half a second
    assert wall.beside_s[1:3].tolist() == [0, 0]


def test_short_intervals_of_a_coarse_clock_are_averaged():
    exact = np.cumsum(np.full(200, 1.7))
    wall = of(np.arange(1, 201), np.floor(exact), tick_s=1.0)
    assert wall.step_ms[1:] == pytest.approx(1700, rel=0.06)
    noisy = np.diff(np.floor(exact))
    assert set(noisy) == {1.0, 2.0}  # what single lines would say


def test_a_long_interval_among_short_ones_stays_alone():
    stamps = np.cumsum(np.full(100, 2.0))
    stamps[50:] += 60
    wall = of(np.arange(1, 101), stamps, tick_s=1.0)
    assert wall.step_ms[50] == pytest.approx(62_000)
    assert np.delete(wall.step_ms, [0, 50]) == pytest.approx(2000)


def test_lines_of_one_second_have_no_time():
    assert np.isnan(of([1, 2, 3], [7, 7, 7], tick_s=1.0).step_ms).all()


def test_nothing_at_all():
    wall = of([], [])
    assert len(wall.count) == len(wall.step_ms) == len(wall.beside_s) == 0
