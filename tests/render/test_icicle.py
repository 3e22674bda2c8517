from dataclasses import replace
from html.parser import HTMLParser

import pytest

from deblurkit.render.icicle import fitted, profile_as_html
from deblurkit.training.profiling.partition import Piece
from deblurkit.training.profiling.records import Gain, Subject
from deblurkit.training.profiling.summary import Measured, summarise

SUBJECT = Subject("vrt", 1234, "cpu", "<CPU>", "fp32", (2, 3, 3, 8, 8), None, 1, "synthetic", False)
VOID = {"meta", "br"}


def piece(phase, row, begin, end, kind=""):
    return Piece(phase, row, kind, (begin, 1e9 * begin, begin), (end, 1e9 * end, end))


@pytest.fixture
def profile():
    step = [
        piece("forward", "VRT处理/Stage1", 0.0, 0.3),
        piece("forward", "<b>\"&'$x", 0.3, 0.4),
        piece("backward", "VRT处理/Stage1", 0.4, 0.8),
        piece("backward", "VRT处理/Stage1", 0.8, 0.9, "attention"),
    ]
    gain = Gain("data", "Do <i>this</i>", 100.0, 1.11, "1,000 / 900", ("DATA.K",), "Nothing.")
    return replace(summarise(Measured(SUBJECT, 2, [step], [1.0], work=step, notes=("<u>",))), gains=(gain,))


class Checked(HTMLParser):
    """Checks that every element is closed where it should be, and keeps what it meets."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [value for _, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(html):
    parser = Checked()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_well_formed_and_every_name_in_it_is_text(profile):
    page = checked(profile_as_html(profile))
    assert "u" not in page.tags and "i" not in page.tags and page.tags.count("b") == 1  # a gain's factor
    assert any("<b>\"&'$x" in text for text in page.text)
    assert any((value or "").startswith("<b>\"&'$x: ") for value in page.attributes)


def test_it_needs_no_network_and_no_other_file(profile):
    html = profile_as_html(profile)
    assert "http" not in html and "src=" not in html and "@import" not in html and "url(" not in html


def test_each_pass_has_a_band_with_its_bars(profile):
    html = profile_as_html(profile)
    bands = html.split("<h2>")[1:5]
    assert [band.partition(" ")[0] for band in bands] == ["Step", "Forward", "Backward", "Recompute"]
    assert [band.count('class="cell"') for band in bands] == [5, 3, 2, 2]
    assert "Stage1: 300 ms, 30.0 % of the step" in bands[1]


def test_without_recompute_there_is_no_band_for_it(profile):
    rows = tuple(replace(row, ms=replace(row.ms, recompute=0.0)) for row in profile.rows)
    assert "<h2>Recompute" not in profile_as_html(replace(profile, rows=rows))


def test_without_modules_the_phases_are_left(profile):
    html = profile_as_html(replace(profile, rows=(), gains=()))
    checked(html)
    assert "<h2>Forward" not in html and "Nothing here would save more" in html


@pytest.mark.parametrize(
    ("name", "width", "text"),
    [("Stage1", 60, "Stage1"), ("Stage1", 30, "Sta…"), ("Stage1", 10, ""), ("时间自注意力", 40, "时间…")],
)
def test_names_are_cut_to_their_bar_by_columns(name, width, text):
    assert fitted(name, width) == text
