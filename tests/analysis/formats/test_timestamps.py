import math
from datetime import datetime, timezone

import pytest

from deblurkit.analysis.formats.timestamps import Stamps, elapsed_seconds

NOON = datetime(2024, 1, 31, 10, 0, 1)  # of this machine's zone, as a stamp without one is


@pytest.mark.parametrize(
    "line",
    [
        b"2024-01-31 10:00:01 step 3",
        b"2024-01-31 10:00:01,000 INFO: x",
        b"2024/01/31 10:00:01 - mmengine",
        b"[2024-01-31 10:00:01,000] [INFO]",
        b"24-01-31 10:00:01.000 : <epoch",
        b"01/31/2024 10:00:01 - INFO",
        b"2024.01.31 10:00:01 x",
        b"Wed Jan 31 10:00:01 2024 x",
        b"rank 0 | 2024-01-31T10:00:01 x",
    ],
)
def test_the_same_moment_in_many_ways(line):
    assert Stamps().find(line) == NOON.timestamp()


@pytest.mark.parametrize(
    ("line", "hour"),
    [
        (b"2024-01-31T10:00:01Z x", 10),
        (b"2024-01-31T10:00:01+08:00 x", 2),
        (b"2024-01-31 10:00:01-0130 x", 11.5),
    ],
)
def test_a_zone_counts(line, hour):
    expected = datetime(2024, 1, 31, tzinfo=timezone.utc).timestamp() + 3600 * hour + 1
    assert Stamps().find(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"no stamp",
        b"eta: 10:00:01 to go",
        b"2024-13-31 10:00:01",
        b"2024-02-30 10:00:01",
        b"9999-99-99 99:99:99",
        b"12024-01-31 10:00:01",
        b"7/10 [10:00<20:00]",
        b"\xff\xfe\x80",
    ],
)
def test_what_is_no_stamp(line):
    assert math.isnan(Stamps().find(line))


def test_seconds_since_1970_and_their_fractions():
    stamps = Stamps()
    assert stamps.find(b"1706695201.25 step") == 1706695201.25
    assert stamps.fractions_seen
    assert Stamps().find(b"[1706695201] step") == 1706695201


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S,250", "%y-%m-%d %H:%M:%S.250", "[%H:%M:%S.250]"])
def test_lines_of_one_hour_and_of_the_next(form):
    stamps = Stamps()
    moments = [
        datetime(2024, 1, 31, 10, 59, 58),
        datetime(2024, 1, 31, 10, 59, 59),
        datetime(2024, 1, 31, 11, 0, 2),
    ]
    found = [stamps.find(moment.strftime(form).encode() + b" x") for moment in moments]
    assert [later - found[0] for later in found] == [0, 1, 4]
    assert stamps.fractions_seen


def test_midnight_passes_where_no_date_is_written():
    stamps = Stamps()
    clocks = [
        b"[23:59:59] a",
        b"[00:00:01] b",
        b"[23:59:58] late",
        b"[12:00:00] c",
        b"[23:00:00] d",
        b"[01:00:00] e",
    ]
    found = [stamps.find(clock) for clock in clocks]
    assert [later - found[0] for later in found] == [0, 2, -1, 12 * 3600 + 1, 23 * 3600 + 1, 25 * 3600 + 1]
    assert stamps.lacks_date


def test_new_year_passes_where_no_year_is_written():
    stamps = Stamps()
    old, new = stamps.find(b"12/31 23:59:59 - a"), stamps.find(b"01/01 00:00:01 - b")
    assert new - old == 2
    assert not math.isnan(Stamps().find(b"02/29 12:00:00 - leap"))


def test_torch_s_and_glog_s_stamps():
    assert Stamps().find(b"[rank0]:[E131 10:00:01.408271257 Pro") == Stamps().find(
        b"01/31 10:00:01.408271257 x"
    )
    assert Stamps().find(b"W0131 10:00:01.408271 x") == pytest.approx(
        Stamps().find(b"01/31 10:00:01.408271 x")
    )


def test_a_damaged_stamp_does_not_disturb_the_next():
    stamps = Stamps()
    first = stamps.find(b"2024-01-31 10:00:01,250 x")
    assert math.isnan(stamps.find(b"2024-01-31 10:0x:01,250 x"))
    assert stamps.find(b"2024-01-31 10:00:02,250 x") == first + 1


def test_behind_a_progress_bar():
    line = b"  0%|" + b" " * 200 + b"| 0/1000 [00:00<?, ?it/s][2024-01-31 10:00:01,000] [INFO] time (ms)"
    assert math.isnan(Stamps().find(line))
    assert Stamps().find_before(line, line.index(b"time")) == NOON.timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"03:12", 192),
        (b"1:03:12", 3792),
        (b"26:00:00", 93_600),
        (b"2 days, 1:03:12", 176_592),
        (b"1 day, 0:00:01", 86_401),
    ],
)
def test_elapsed_time(text, seconds):
    assert elapsed_seconds(text) == seconds


@pytest.mark.parametrize("text", [b"?", b"", b"12", b"a:b", b"1:2:3:4", b"x days, 1:00"])
def test_what_is_no_elapsed_time(text):
    assert math.isnan(elapsed_seconds(text))
