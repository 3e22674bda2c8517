import io

import pytest

from deblurkit.analysis.growth import JsonLinesGrowth, TextGrowth, growth_of
from deblurkit.errors import DeblurkitError

HEADER = b'{"schema":"deblurkit-timing/1","rank":1,"clock":"host","names":["data"]}\n'
TEXT_HEADER = (
    b"# deblurkit timing log 1 | unit ms | rank 0 of 1 | clock host | samples_per_step 3 | started x\n"
)
RULE = b"=" * 80 + b"\n"
BLOCK = RULE + b"Step 1\n" + RULE + b"data : 5.00ms\n  - Total : 1.00ms\nTotal--- : 9.00ms\n"
SUMMARY = RULE + b"Timing Summary (Total 1 steps)\n" + RULE


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (HEADER, JsonLinesGrowth),
        (b"\xef\xbb\xbf" + HEADER, JsonLinesGrowth),
        (TEXT_HEADER, TextGrowth),
        (BLOCK, TextGrowth),
        (b"", type(None)),
        (HEADER[:9], type(None)),
        (b"2025-01-01 00:00:00 INFO: [epoch: 0, iter: 200]\n", type(None)),
    ],
)
def test_only_our_own_formats_grow(head, kind):
    assert type(growth_of(head)) is kind


@pytest.mark.parametrize(
    ("growth", "tail", "end"),
    [
        (JsonLinesGrowth(), b"[1,2,3]\n[2,3,4]\n[3,", 16),
        (JsonLinesGrowth(), b"[3,", 0),
        (TextGrowth(), BLOCK + RULE + b"Step 2\n", len(BLOCK)),
        (TextGrowth(), BLOCK[:-1], 0),
        (TextGrowth(), BLOCK.replace(b"Total-", b"\x1b[1mTotal-"), len(BLOCK) + 4),
        (TextGrowth(), SUMMARY, 0),
    ],
)
def test_where_the_last_whole_step_ends(growth, tail, end):
    assert growth.whole(tail) == end


@pytest.mark.parametrize(
    ("growth", "tail", "ended"),
    [
        (JsonLinesGrowth(), b'[1,2,3]\n{"names":[],"overhead":{}}\n', True),
        (JsonLinesGrowth(), b'[1,2,3]\n{"names":[],"overhead":{}', False),
        (JsonLinesGrowth(), b'{"names":[],"overhead":{}}\n[1,2,3]\n', False),
        (JsonLinesGrowth(), b"", False),
        (TextGrowth(), BLOCK + SUMMARY, True),
        (TextGrowth(), SUMMARY + BLOCK, False),
        (TextGrowth(), BLOCK, False),
    ],
)
def test_when_a_run_is_over(growth, tail, ended):
    assert growth.has_ended(tail) is ended


def test_later_rows_have_the_names_in_force_and_what_was_told_once_is_told_once():
    growth = JsonLinesGrowth()
    first = (
        HEADER
        + b'[1,0,9,1]\n{"names":["data","x"],"beside":"validation","seconds":1,"count":1,"after_step":1}\n'
    )
    assert [part.name for part in growth.read(io.BytesIO(first), source="s").beside] == ["validation"]
    with pytest.raises(DeblurkitError, match="no complete step"):
        growth.read(io.BytesIO(b'{"names":["other"]}\n'), source="s")
    second = growth.read(io.BytesIO(b"[2,0,9,1,2]\n"), source="s")
    assert second.times.to_dict("list") == {"data": [1.0], "x": [2.0]}
    assert (second.rank, second.beside) == (1, ())


def test_later_blocks_have_the_header():
    growth = TextGrowth()
    growth.read(io.BytesIO(TEXT_HEADER + BLOCK), source="s")
    log = growth.read(io.BytesIO(BLOCK), source="s")
    assert (log.format, log.samples_per_step) == ("timing-text", 3)
    assert TextGrowth().read(io.BytesIO(BLOCK), source="s").format == "timing-text-seed"
