import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurkit.analysis.trace_intervals import (
    EMPTY,
    length,
    length_before,
    length_within,
    outermost,
    overlap,
    union,
    without,
)

SIZE = 40
PAIRS = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=12)


def spans(pairs):
    return np.array([sorted(pair) for pair in pairs], dtype=np.float64).reshape(-1, 2)


def cells(intervals):
    """The unit cells of the line that a set covers: the plain way to do what the arrays do."""
    return {cell for start, end in intervals for cell in range(int(start), int(end))}


def disjoint(intervals):
    starts, ends = intervals[:, 0], intervals[:, 1]
    return bool((ends > starts).all() and (starts[1:] >= ends[:-1]).all())


@given(PAIRS, PAIRS)
def test_sets_hold_the_cells_that_a_plain_loop_finds(one, other):
    a, b = union(spans(one)), union(spans(other))
    assert cells(a) == cells(spans(one))
    assert cells(union(spans(one), spans(other))) == cells(a) | cells(b)
    assert cells(overlap(a, b)) == cells(a) & cells(b)
    assert cells(without(a, b)) == cells(a) - cells(b)
    assert all(map(disjoint, (a, overlap(a, b), without(a, b))))
    assert length(a) == len(cells(a))


@given(PAIRS, st.lists(st.integers(-3, SIZE + 3), min_size=1, max_size=9))
def test_lengths_count_the_cells_before_a_time_and_between_two(pairs, times):
    a = union(spans(pairs))
    found = length_before(a, np.array(times, dtype=np.float64))
    assert found.tolist() == [len([cell for cell in cells(a) if cell < time]) for time in times]
    bounds = spans(list(zip(times, times[::-1], strict=True)))
    inside = [len([cell for cell in cells(a) if start <= cell < end]) for start, end in bounds]
    assert length_within(a, bounds).tolist() == inside


def test_intervals_that_touch_become_one():
    assert union(spans([(0, 2), (2, 5), (7, 7), (8, 9)])).tolist() == [[0, 5], [8, 9]]


def test_touching_parts_of_another_set_stay_apart():
    assert overlap(spans([(1, 9)]), spans([(0, 5), (5, 10)])).tolist() == [[1, 5], [5, 9]]


def test_nothing_has_no_length():
    assert length(union()) == 0
    assert without(EMPTY, EMPTY).shape == overlap(EMPTY, spans([(0, 1)])).shape == (0, 2)
    assert length_before(EMPTY, np.array([3.0])).tolist() == [0]


@pytest.mark.parametrize(
    ("pairs", "lanes", "kept"),
    [
        ([(0, 10), (2, 4), (3, 4), (12, 14)], [0, 0, 0, 0], [0, 3]),
        ([(2, 4), (0, 10)], [0, 0], [1]),
        ([(0, 10), (2, 4)], [1, 0], [1, 0]),
        ([(0, 10), (5, 15)], [0, 0], [0, 1]),
        ([(3, 5), (3, 5)], [0, 0], [0]),
        ([], [], []),
    ],
)
def test_the_outermost_contain_the_others_of_their_lane(pairs, lanes, kept):
    assert outermost(spans(pairs), np.array(lanes, dtype=np.int64)).tolist() == kept
