import io

import pytest

from deblurkit.analysis import lines
from deblurkit.analysis.lines import CleanLines, chunks_of, clean_head

TEXT = b"one\n\ntwo is longer\nthree\n"


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 18])
@pytest.mark.parametrize("end", [b"", b"half a line"])
def test_lines_do_not_depend_on_where_chunks_end(monkeypatch, size, end):
    monkeypatch.setattr(lines, "_CHUNK_BYTES", size)
    expected = [b"one", b"", b"two is longer", b"three", *([end] if end else [])]
    assert list(CleanLines(io.BytesIO(TEXT + end))) == expected
    assert b"".join(CleanLines(io.BytesIO(TEXT + end)).chunks()) == TEXT + end


@pytest.mark.parametrize(
    "dirty",
    [
        b"\xef\xbb\xbf" + TEXT,
        TEXT.replace(b"\n", b"\r\n"),
        TEXT.replace(b"\n", b"\r"),
        TEXT.replace(b"t", b"\x1b[1;32mt\x1b[0m"),
        TEXT.replace(b"one", b"\0\0on\0e"),
        b"\x1b]0;title\x07" + TEXT,
    ],
)
def test_dirt_is_no_part_of_a_line(dirty):
    assert b"".join(CleanLines(io.BytesIO(dirty)).chunks()) == TEXT
    assert clean_head(dirty) == TEXT


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(lines, "_CHUNK_BYTES", 10)
    monkeypatch.setattr(lines, "_LONGEST_LINE", 35)
    cut = list(CleanLines(io.BytesIO(b"x" * 95)))
    assert b"".join(cut) == b"x" * 95
    assert max(map(len, cut)) <= 45
    bars = list(CleanLines(io.BytesIO(b"10 %|##\r" * 12)))
    assert bars == [b"10 %|##"] * 12


def test_lines_from_anywhere_come_as_chunks(monkeypatch):
    monkeypatch.setattr(lines, "_LINES_AT_A_TIME", 3)
    assert b"".join(chunks_of(TEXT.split(b"\n")[:-1])) == TEXT
    assert list(chunks_of([])) == []
    assert b"".join(chunks_of(CleanLines(io.BytesIO(TEXT)))) == TEXT
