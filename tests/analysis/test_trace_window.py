import gzip
import io
import re

import pytest

from deblurkit.analysis import trace_window
from deblurkit.analysis.trace_window import TextWindow


@pytest.fixture(params=[1, 3, 1 << 22])
def window_of(request, monkeypatch):
    """Give windows of few bytes as well, so that everything is cut by their edges."""
    monkeypatch.setattr(trace_window, "WINDOW_BYTES", request.param)
    monkeypatch.setattr(trace_window, "_READ_BYTES", min(request.param, 1 << 18))
    return lambda text: TextWindow(io.BytesIO(text if isinstance(text, bytes) else text.encode()))


VALUES = {
    '{"a": [1, {"b": "x"}]}': {"a": [1, {"b": "x"}]},
    '"预训练"': "预训练",
    "null": None,
    "[[], {}]": [[], {}],
}


@pytest.mark.parametrize("value", [*VALUES, "123456.25"])
def test_a_value_is_whole_wherever_a_window_ends(window_of, value):
    window = window_of(f"  {value} , 7")
    assert window.skip(re.compile(r"\s*")) == value[0]
    assert window.value() == {**VALUES, "123456.25": 123456.25}[value]
    assert window.skip(re.compile(r"[\s,]*")) == "7"


@pytest.mark.parametrize("text", ["", "}", "{'a': 1}", '{"a": ', "tru", "[" * 5_000, '"never closed'])
def test_what_is_no_value_is_an_error_and_stays(window_of, text):
    window = window_of(text)
    with pytest.raises(ValueError):
        window.value()
    assert window.at == 0


def test_a_mark_is_found_across_windows(window_of):
    window = window_of("x" * 1_000 + '{ "ph" : 1}')
    found = window.find(re.compile(r'\{\s*"ph"'))
    assert (found[0], window.skip(re.compile("")), window.offset + window.at) == ('{ "ph"', "{", 1_000)


def test_without_the_mark_everything_is_taken(window_of):
    window = window_of("y" * 500)
    assert window.find(re.compile("x")) is None
    assert window.exhausted


def test_a_byte_order_mark_and_broken_text_are_no_hindrance(window_of):
    window = window_of(b'\xef\xbb\xbf"a\xff"')
    assert window.skip(re.compile("")) == '"'
    assert window.value() == "a�"


def test_a_broken_file_gives_what_is_whole_and_says_why():
    packed = gzip.compress(bytes(range(256)) * 4_000, compresslevel=0)
    window = TextWindow(gzip.GzipFile(fileobj=io.BytesIO(packed[: len(packed) // 2])))
    while window.fill():
        pass
    assert len(window.text) > 300_000
    assert "end-of-stream" in window.broken


def test_memory_is_bounded_by_the_window(monkeypatch):
    monkeypatch.setattr(trace_window, "WINDOW_BYTES", 1_000)
    monkeypatch.setattr(trace_window, "_READ_BYTES", 100)
    window = TextWindow(io.BytesIO(b"0," * 50_000))
    longest = 0
    while not window.exhausted:
        window.skip(re.compile(r"[\s,]*"))
        if not window.exhausted:
            window.value()
        longest = max(longest, len(window.text))
    assert window.offset + window.at == 100_000
    assert longest <= 1_000 + 256
