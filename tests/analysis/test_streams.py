import gzip
import io

import pytest

from deblurkit.analysis.streams import Replayed, Unpacked, is_gzip

TEXT = b"".join(b"step %d took %d ms\n" % (at, at * 7919 % 1000) for at in range(20_000))
PACKED = gzip.compress(TEXT)


def unpacked(data):
    raw = Unpacked(io.BytesIO(data))
    return io.BufferedReader(raw).read(), raw.damage


@pytest.mark.parametrize("size", [1, 3, 1 << 16])
def test_a_stream_that_was_looked_at_is_whole_again(size):
    file = io.BytesIO(b"abcdefgh")
    raw = Replayed(file.read(3), file)
    got = b""
    while piece := raw.read(size):
        got += piece
    assert got == b"abcdefgh"


def test_gzip_is_told_by_its_first_bytes():
    assert is_gzip(PACKED)
    assert not is_gzip(TEXT)


def test_members_follow_each_other_and_zeros_end_them():
    assert unpacked(PACKED) == (TEXT, "")
    assert unpacked(PACKED + gzip.compress(b"more") + bytes(200_000)) == (TEXT + b"more", "")
    assert unpacked(PACKED + bytes(100_000) + gzip.compress(b"more")) == (TEXT + b"more", "")


@pytest.mark.parametrize("left", [0, 1, 9, 10, 1000, len(PACKED) - 1])
def test_of_a_stream_that_is_cut_off_what_is_there_comes_out(left):
    data, damage = unpacked(PACKED[:left])
    assert TEXT.startswith(data)
    assert len(data) >= len(TEXT) * (left - 2000) / len(PACKED)
    assert damage == "is cut off"


def test_of_a_damaged_stream_what_comes_before_is_kept():
    middle = len(PACKED) // 2
    data, damage = unpacked(PACKED[:middle] + b"\xff" * 50 + PACKED[middle + 50 :])
    assert damage == "is damaged"
    common = len(TEXT) * 45 // 100  # the rest of its block may decode to other bytes
    assert data[:common] == TEXT[:common]


def test_the_check_sum_at_the_end_is_checked():
    data, damage = unpacked(PACKED[:-8] + bytes(8))
    assert (data, damage) == (TEXT, "is damaged")


def test_other_bytes_after_the_end_are_said():
    assert unpacked(PACKED + b"rubbish") == (TEXT, "is followed by other bytes")
