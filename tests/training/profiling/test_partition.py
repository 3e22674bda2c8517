"""Every expected number is written down by hand from the picture of the intervals."""

import random

from deblurkit.training.profiling.partition import Interval, Names, flame, pieces, totals


def interval(name, begin, end):
    return Interval(name, (float(begin),), (float(end),))


def owned(intervals, names=None):
    return {key: amount for key, amount in totals(pieces(intervals, names)).items()}


def test_nested_rows_leave_the_rest_to_the_outer_one():
    found = owned([interval("forward", 0, 10), interval("forward/a", 1, 8), interval("forward/a/b", 2, 5)])
    assert found == {("forward", "", ""): 3, ("forward", "a", ""): 4, ("forward", "a/b", ""): 3}


def test_where_backward_passes_cross_the_one_that_began_last_owns_the_time():
    found = owned(
        [
            interval("backward", 0, 100),
            interval("backward/fusion", 10, 90),
            interval("backward/stage", 20, 95),
        ]
    )
    assert found == {("backward", "", ""): 15, ("backward", "fusion", ""): 10, ("backward", "stage", ""): 75}


def test_an_outer_row_that_begins_after_the_inner_one_does_not_take_its_time():
    found = owned(
        [interval("backward", 0, 10), interval("backward/a/last", 1.0, 8), interval("backward/a", 1.1, 9)]
    )
    assert found[("backward", "a/last", "")] == 7 and found[("backward", "a", "")] == 1


def test_what_is_made_again_is_shown_where_its_hidden_row_lies():
    names = Names(hidden={"once more:x": "a", "once more:y": ""}, kinds={"once more:x": "attention"})
    found = owned(
        [
            interval("forward", 0, 5),
            interval("forward/a", 0, 5),
            interval("forward/once more:x", 1, 2),
            interval("backward", 5, 20),
            interval("backward/a", 6, 18),
            interval("backward/once more:x", 7, 9),
            interval("backward/recompute/once more:x", 8, 12),
            interval("backward/recompute/once more:y", 18, 19),
        ],
        names,
    )
    assert found == {
        ("forward", "a", ""): 5,
        ("backward", "", ""): 2,
        ("backward", "a", ""): 8,
        ("backward", "a", "attention"): 4,
        ("backward", "", "other"): 1,
    }


def test_pieces_cover_what_the_phases_do_whatever_the_rows():
    random.seed(3)
    for _ in range(50):
        ends = [sorted(random.sample(range(1, 100), 2)) for _ in range(12)]
        rows = [interval(f"backward/{random.choice('abc')}/{n % 4}", *end) for n, end in enumerate(ends)]
        found = pieces([interval("forward", 0, 1), interval("backward", 1, 100), *rows])
        assert sum(piece.amount() for piece in found) == 100
        assert all(before.end == after.begin for before, after in zip(found, found[1:], strict=False))


def test_bars_of_the_flame_chart_lie_inside_one_another():
    found = pieces(
        [
            interval("backward", 0, 100),
            interval("backward/a/x", 10, 90),
            interval("backward/a/y", 20, 95),
            interval("backward/recompute/a/y", 30, 40),
        ],
        Names(kinds={"a/y": "attention"}),
    )
    bars = [(bar.path[1:], bar.begin[0], bar.end[0]) for bar in flame(found)]
    assert bars == [
        ((), 0, 100),
        (("a",), 10, 95),
        (("a", "x"), 10, 20),
        (("a", "y"), 20, 95),
        (("a", "y", "recompute"), 30, 40),
    ]
