import numpy as np
import pandas as pd

from deblurkit.analysis.courses import course


def frame(steps, values):
    return pd.DataFrame({"step": np.asarray(steps, dtype="float64"), "unix_s": np.nan, "value": values})


def test_positions_are_steps_where_they_rise():
    made = course(frame([10, 20, 20, 30], [1.0, 2, 3, 4]))
    assert made.counts_steps
    assert made.positions.tolist() == [10, 20, 20, 30]
    assert (made.step(0), made.step(-1), len(made)) == (10, 30, 4)


def test_positions_are_places_where_steps_go_back_or_are_unknown():
    for steps in ([10, 20, 5, 6], [np.nan, 1, 2, 3]):
        made = course(frame(steps, [1.0, 2, 3, 4]))
        assert not made.counts_steps
        assert made.positions.tolist() == [0, 1, 2, 3]
    assert course(frame([np.nan], [1.0])).step(0) is None


def test_parts_and_levels_by_hand():
    made = course(frame(range(8), [1.0, 1, 9, 1, 4, 4, 4, 90]))
    assert made.part(6).values.tolist() == [4, 90]
    assert made.part(2, 4).positions.tolist() == [2, 3]
    assert made.levels(shortest=4, most=10).tolist() == [1, 4]
    assert made.levels(shortest=100, most=10).tolist() == [4]  # one block at least: 1 1 1 4 4 4 9 90


def test_what_was_told_before_the_first_step_is_left_out_where_it_is_little():
    steps = [np.nan, *range(100, 1100, 100)]
    made = course(frame(steps, [5.0, *range(10)]))
    assert made.counts_steps
    assert made.positions.tolist() == list(range(100, 1100, 100))
    assert made.values.tolist() == list(range(10))
    several = course(frame([np.nan, np.nan, *steps[1:]], [5.0, 5, *range(10)]))
    assert (several.counts_steps, len(several)) == (False, 12)
