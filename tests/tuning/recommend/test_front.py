"""The front and the path, on rows whose memory and speed are set by hand."""

import itertools

import pytest

from deblurkit.tuning.recommend.front import in_order, is_usable, pareto_front, path_between
from deblurkit.tuning.recommend.records import Candidate, Estimate, Row, Trial


@pytest.fixture
def row(space):
    """Return a function that makes a row of a clip a second's time at a rate."""
    names = itertools.count()

    def make(gib, rate, *, choices=None, fits=True, tried=None, devices=1):
        config = space[0].config
        candidate = Candidate({"number": next(names)}, config, choices or {}, devices=devices)
        seconds = candidate.effective_batch / rate if rate else 0
        estimate = Estimate(seconds, seconds / 1.1, seconds * 1.1, tried == "measured") if rate else None
        trial = Trial(candidate.key, tried, "", 1.0) if tried else None
        return Row(candidate, None if gib is None else gib * 2**30, None, fits, estimate, trial)

    return make


def test_the_front_holds_what_no_other_beats(row):
    small, middle, large = row(2, 1.0), row(4, 2.0), row(9, 3.0, tried="measured")
    beaten, too_large = row(5, 1.5), row(20, 9.0, fits=False)
    failed, unknown = row(1, 5.0, tried="timed out"), row(None, 2.5)
    rows = [large, beaten, failed, too_large, small, middle, unknown]
    assert pareto_front(rows, large) == (small, middle, large)


def test_what_is_only_said_to_be_faster_is_not_on_the_front(row):
    best, said = row(4, 2.0, tried="measured"), row(3, 2.1)
    assert pareto_front([said, best], best) == (best,)
    assert pareto_front([said, best], None) == ()


def test_the_front_is_of_as_many_devices_as_the_best(row):
    one, two = row(1, 1.0), row(2, 3.0, devices=2)
    assert pareto_front([one, two], two) == (two,)


def test_the_best_is_first_and_what_cannot_be_used_is_last(row):
    best, faster, slow = row(4, 2.0, tried="measured"), row(3, 2.1), row(1, 1.0)
    failed, too_large, unknown = row(1, 9.0, tried="killed"), row(99, 8.0, fits=False), row(1, None)
    found = in_order([unknown, slow, too_large, failed, faster, best], best)
    assert found == (best, faster, slow, failed, too_large, unknown)
    assert [is_usable(each) for each in found] == [True, True, True, False, False, False]


def test_the_path_changes_one_choice_at_a_time_the_largest_gain_first(row):
    rates = {"aa": 1.0, "ba": 1.5, "ab": 1.2, "bb": 2.0}
    rows = {name: row(1, rate, choices=dict(zip("xy", name, strict=True))) for name, rate in rates.items()}
    path = path_between(list(rows.values()), rows["aa"], rows["bb"])
    assert path == (rows["aa"], rows["ba"], rows["bb"])


def test_the_path_goes_by_what_fits_and_jumps_where_there_is_nothing(row):
    start, best = row(1, 1.0, choices={"x": "a", "y": "a"}), row(1, 2.0, choices={"x": "b", "y": "b"})
    large = row(9, 1.9, choices={"x": "b", "y": "a"}, fits=False)
    fits = row(1, 1.1, choices={"x": "a", "y": "b"})
    assert path_between([start, best, large, fits], start, best) == (start, fits, best)
    assert path_between([start, best], start, best) == (start, best)
    assert path_between([start, best], start, start) == (start,)
