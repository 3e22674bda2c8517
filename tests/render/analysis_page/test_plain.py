import html
import json

import pytest

from deblurkit.render.analysis_page.plain import as_json, in_html, in_plot, numbers, shown


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a&amp;b", "<b>x</b>", "时间自注意力 <sub>", "\"'"]
)
def test_a_name_comes_out_of_a_page_and_a_plot_as_it_was(name):
    for escaped in (in_html(name), in_plot(name)):
        assert "<" not in escaped
        assert html.unescape(escaped) == name  # plotly knows &lt; &gt; and &amp;


def test_what_turns_the_text_around_or_cannot_be_written_is_left_out():
    assert shown("a\u202eb\x00c\ud800d\n") == "a b c d "
    in_html("caf\udce9").encode("utf-8")


def test_names_are_cut_by_columns_before_they_are_escaped():
    assert in_plot("<<<<<<", columns=4) == "&lt;&lt;&lt;…"
    assert in_plot("时间自注意力", columns=6) == "时间…"
    assert in_plot("短", columns=6) == "短"


def test_json_cannot_end_its_script_and_says_the_same():
    value = {"name": "</script><!-- 验证 \u2028"}
    text = as_json(value)
    assert "<" not in text
    assert "验证" in text
    assert json.loads(text) == value


def test_json_of_no_number_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        as_json([float("nan")])


def test_numbers_are_short_and_what_is_none_is_null():
    assert numbers([1.0, 1234.5678, 1e-7 / 3, float("nan"), float("inf"), 437_000.0, 1e300]) == [
        *(1, 1234.6, 3.3333e-08, None, None, 437_000, 1e300)
    ]
