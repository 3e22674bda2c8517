import pytest

from deblurkit.timing.records import StepTiming, clean_name, with_parents


def test_what_no_row_covers_is_unaccounted():
    timing = StepTiming(1, 0.0, 100.0, {"forward": 40.0, "forward/Stage1": 30.0, "backward": 50.0})
    assert timing.accounted_ms == 90.0
    assert timing.unaccounted_ms == 10.0
    assert timing.total_ms == 100.0


def test_rows_that_exceed_the_wall_time_are_the_total():
    timing = StepTiming(1, 0.0, 10.0, {"a": 8.0, "b": 7.0})
    assert (timing.total_ms, timing.unaccounted_ms) == (15.0, 0.0)


def test_a_parent_that_nobody_logged_is_the_sum_of_its_children():
    rows = with_parents({"VRT处理/Stage1/Attention": 4.0, "VRT处理/Stage1/FFN": 2.0, "VRT处理/Stage2": 1.0})
    assert rows["VRT处理/Stage1"] == 6.0
    assert rows["VRT处理"] == 7.0


def test_a_parent_that_was_logged_keeps_its_own_time():
    assert with_parents({"forward": 10.0, "forward/a": 3.0})["forward"] == 10.0


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a/b", "a/b"),
        ("/a//b/", "a/b"),
        (" a / b ", "a/b"),
        ("a\nb", "a b"),
        ("\x1b[31m", "[31m"),
        ("", "unnamed"),
    ],
)
def test_names_become_paths_of_one_line(raw, clean):
    assert clean_name(raw) == clean
