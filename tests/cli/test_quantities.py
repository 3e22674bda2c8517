import pytest

from deblurkit.cli.quantities import read_duration, read_size
from deblurkit.errors import UsageError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("24GiB", 24 * 2**30),
        ("24g", 24 * 2**30),
        (" 24 G ", 24 * 2**30),
        ("24GB", 24 * 10**9),
        ("1.5MiB", 3 * 2**19),
        ("512k", 2**19),
        ("2T", 2**41),
    ],
)
def test_sizes_are_read_with_their_unit(text, count):
    assert read_size("--vram", text) == count


@pytest.mark.parametrize(
    "text", ["", "24", "g", "-1g", "0g", "24 bananas", "nan", "1e3g", "24GiB!", "9" * 400 + "T"]
)
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"--vram .*: expected a size with its unit, such as 24GiB"):
        read_size("--vram", text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("10min", 600), ("1h30m", 5400), ("1.5h", 5400), ("1 h 5 s", 3605)],
)
def test_durations_are_read_with_their_unit(text, seconds):
    assert read_duration("--time-budget", text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "-1m", "0s", "10m5", "5s1h", "inf", "9" * 400 + "s"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"--time-budget .*: expected a duration with its unit, such as 90s"):
        read_duration("--time-budget", text)
