import numpy as np
import pytest

from deblurkit.analysis.run_axis import run_axis


@pytest.mark.parametrize("numbers", [[1, 2, 3], [100, 200, 300, 300], [7]])
def test_numbers_that_rise_are_the_axis(numbers):
    place = run_axis(np.array(numbers))
    assert place.by_number
    assert place.positions.tolist() == numbers
    assert place.position_of(250) == 250


def test_after_a_resume_steps_are_counted_in_the_order_of_the_log():
    place = run_axis(np.array([1, 2, 3, 4, 3, 4, 5]))
    assert not place.by_number
    assert place.positions.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert place.position_of(4) == 6  # the last time that it was done
    assert place.position_of(2) == 2
    assert place.position_of(9) is None


def test_a_line_counts_for_the_steps_it_stands_for():
    place = run_axis(np.array([100, 200, 100]), np.array([100, 100, 50]))
    assert place.positions.tolist() == [100, 200, 250]


def test_numbers_that_say_nothing_are_no_axis():
    assert run_axis(np.array([0, 0, 0, 0])).positions.tolist() == [1, 2, 3, 4]
