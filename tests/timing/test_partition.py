import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurkit.timing.partition import exclusive, logged_beside_parent
from deblurkit.timing.records import with_parents


def test_a_row_s_own_time_is_what_its_children_leave():
    rows = {"forward": 10.0, "forward/a": 4.0, "forward/a/b": 1.0, "forward/c": 3.0, "loss": 2.0}
    own = {"forward": 3.0, "forward/a": 3.0, "forward/a/b": 1.0, "forward/c": 3.0, "loss": 2.0}
    assert exclusive(rows) == own


def test_children_that_overlap_leave_nothing_and_not_less():
    assert exclusive({"a": 5.0, "a/b": 4.0, "a/c": 4.0})["a"] == 0.0


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)


@given(st.dictionaries(PATHS, st.just(1.0)))
def test_own_times_add_up_to_the_top_level_where_children_fit_into_their_parents(leaves):
    leaves = {name: ms for name, ms in leaves.items() if not any(n.startswith(f"{name}/") for n in leaves)}
    rows = with_parents(leaves)
    top = sum(ms for name, ms in rows.items() if "/" not in name)
    assert sum(exclusive(rows).values()) == pytest.approx(top)


def test_the_seed_s_mistake_is_found():
    """forward 1805 + VRT 1800 inside it: its table added them to 3610 ms, more than the wall time."""
    rows = {"前向传播总耗时": 1805.0, "VRT处理": 1800.0, "backward": 2000.0}
    assert logged_beside_parent(rows, 3900.0) == [("前向传播总耗时", ("VRT处理",))]


def test_known_names_go_inside_level_by_level():
    rows = {"forward": 280.0, "VRT处理": 150.0, "VRT融合": 60.0, "Spike编码器": 50.0}
    found = logged_beside_parent(rows, 285.0)
    assert found == [("VRT处理", ("VRT融合",)), ("forward", ("VRT处理", "Spike编码器"))]


@pytest.mark.parametrize(
    ("rows", "wall", "found"),
    [
        ({"forward": 60.0, "backward": 35.0, "my net": 55.0}, 100.0, [("forward", ("my net",))]),
        ({"work": 60.0, "half": 31.0, "rest": 29.0}, 62.0, [("work", ("half", "rest"))]),
        ({"forward": 60.0, "backward": 40.0}, 100.0, []),  # fits
        ({"forward": 60.0, "backward": 50.0}, 70.0, []),  # standard phases never contain each other
        ({"forward": 60.0, "loader": 90.0}, 100.0, []),  # longer than any row that could hold it
        ({"a": 60.0, "b": 50.0}, 20.0, []),  # moving one of them explains nothing
    ],
)
def test_a_part_is_named_only_where_that_explains_the_excess(rows, wall, found):
    assert logged_beside_parent(rows, wall) == found
