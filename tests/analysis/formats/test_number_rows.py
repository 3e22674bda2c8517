import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblurkit.analysis.formats.number_rows import number_rows

DECIMALS = (0, 3, 4)


def test_numbers_are_those_that_a_reader_of_json_finds():
    rng = np.random.default_rng(1)
    lines = [
        f"[{rng.integers(0, 10**9)},{rng.random() * 2e9:.3f},"
        + ",".join("null" if rng.random() < 0.2 else f"{10 ** rng.uniform(-5, 9):.4f}" for _ in range(7))
        + "]"
        for _ in range(500)
    ]
    table = number_rows("\n".join(lines).encode(), decimals=DECIMALS)
    expected = [[math.nan if value is None else value for value in json.loads(line)] for line in lines]
    np.testing.assert_array_equal(table, expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "]]",
        "[1]]]]",
        "[1,0.500]],",
        "[1",
        "1]",
        "[1,0.500]\n[2]",
        "[1,0.500]\n[2,0.500]\n",
        "[1,0.500] [2,0.500]",
        "[1,0.500],[2,0.500]",
        "[1,[0.500]]",
        "[1,,2.0000]",
        "[01,0.500]",
        "[1,00.500]",
        "[1,.500]",
        "[1,0.50]",
        "[1,0.5000]",
        "[1.0,0.500]",
        "[1,0.500,-1.0000]",
        "[1,0.500,1.0e00]",
        "[1,0.500,1.00x0]",
        "[1,0.500,1.00.0]",
        "[1,0.500,NaN]",
        "[1,0.500,nul]",
        "[1,0.500,1null]",
        '[1,0.500,"2.0000"]',
        "[1,0.500, 2.0000]",
        "[1,0.500,2\u00b10000]",
        "[1,0.500,12345678901.0000]",
    ],
)
def test_anything_else_is_left_to_others(text):
    assert number_rows(text.encode(), decimals=DECIMALS) is None


def test_the_longest_number_is_exact():
    table = number_rows(b"[123456789012345,12345678901.123,1234567890.1234]", decimals=DECIMALS)
    assert table.tolist() == [[123456789012345, 12345678901.123, 1234567890.1234]]


tokens = st.sampled_from(
    ["0", "7", "12", "007", "1.500", "2.0000", "0.2500", "null", "", ".5000", "9.", "1e5", "-1.0000"]
)
lines = st.lists(tokens, max_size=4).map(",".join)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    rows=st.lists(lines | st.sampled_from(["1,0.500,2.0000", "2,1.250,null"]), min_size=1, max_size=4),
    between=st.sampled_from(["]\n[", "]\n[", "],[", "]\n\n[", "\n"]),
)
def test_what_is_read_is_json_of_the_same_meaning(rows, between):
    text = f"[{between.join(rows)}]"
    table = number_rows(text.encode(), decimals=DECIMALS)
    if table is not None:
        found = [json.loads(line) for line in text.split("\n")]
        expected = [[math.nan if value is None else value for value in row] for row in found]
        np.testing.assert_array_equal(table, expected)
