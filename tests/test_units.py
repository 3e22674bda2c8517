import pytest

from deblurkit import units


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (12 * 1024**2, "12.0 MiB"), (3 * 2**29, "1.50 GiB")],
)
def test_bytes_are_shown_in_the_largest_unit_that_leaves_a_whole(count, text):
    assert units.format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.85, "850 ms"),
        (12.34, "12.3 s"),
        (245, "4 min 05 s"),
        (3599.7, "1 h 00 min"),
        (12_000, "3 h 20 min"),
        (187_200, "2 d 04 h"),
    ],
)
def test_durations_are_said_as_a_person_says_them(seconds, text):
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(("ms", "text"), [(0.123, "0.12 ms"), (4.51, "4.5 ms"), (1805.28, "1,805 ms")])
def test_milliseconds_keep_three_digits(ms, text):
    assert units.format_ms(ms) == text


def test_shares_and_counts():
    assert units.format_share(0.4519) == "45.2 %"
    assert [units.format_count(n) for n in (950, 41_200, 18_300_000)] == ["950", "41.2 k", "18.3 M"]


def test_one_of_a_thing_has_no_s():
    assert [units.plural(count, "step") for count in (0, 1, 2000)] == ["0 steps", "1 step", "2,000 steps"]
    assert units.plural(2, "process") == "2 processes"


@pytest.mark.parametrize(
    ("per_second", "text"), [(0.05123, "0.0512"), (6.5, "6.50"), (41.23, "41.2"), (1805.28, "1,805")]
)
def test_rates_keep_three_digits(per_second, text):
    assert units.format_rate(per_second) == text
