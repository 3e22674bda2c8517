import re
import xml.etree.ElementTree as ElementTree

import pytest

from deblurkit.render.memory_bars import WIDTH, Bar, Part, drawn, resource_bars, stacked_bar

GIB = 2**30


def rectangles(svg):
    """Return the parts of a drawing as (title, left, width)."""
    found = []
    for group in ElementTree.fromstring(svg).iter("g"):
        rect = group.find("rect")
        found.append((group.find("title").text, float(rect.get("x")), float(rect.get("width"))))
    return found


def test_a_bar_is_as_wide_as_the_page_and_its_parts_as_their_bytes():
    svg = drawn([stacked_bar("a step", [("A", 3 * GIB), ("B", GIB)])])
    assert rectangles(svg) == [
        ("A: 3.00 GiB", 0.0, pytest.approx(0.75 * WIDTH)),
        ("B: 1.00 GiB", pytest.approx(0.75 * WIDTH), pytest.approx(0.25 * WIDTH)),
    ]


def test_bars_of_one_scale():
    bars = [stacked_bar(name, [("A", size * GIB)]) for name, size in (("long", 4), ("short", 1))]
    widths = [width for _, _, width in rectangles(drawn(bars, common_scale=True))]
    assert widths == pytest.approx([WIDTH, WIDTH / 4])


def test_a_run_that_does_not_fit_goes_beyond_the_mark(server, run):
    bars = {bar.name: bar for bar in resource_bars(server, run.verdicts)}
    gpu = bars["GPU 0 NVIDIA RTX A6000"]
    assert [part.label for part in gpu.parts] == ["王小明 (4242)", "driver", "this run", "free"]
    assert gpu.length > gpu.limit == 48 * GIB
    assert gpu.parts[2].fill == "var(--bad)" and gpu.parts[3].bytes == 0
    ram = bars["RAM"]
    assert [part.bytes // GIB for part in ram.parts] == [44, 5, 15] and ram.length == ram.limit
    assert "5.00 GiB predicted: fits" in ram.about
    mark = re.search(r'class="mark" x="([\d.]+)"', drawn([gpu]))
    assert float(mark[1]) == pytest.approx(WIDTH * gpu.limit / gpu.length, abs=0.01)


def test_what_has_no_size_is_not_drawn(bare, server):
    assert [bar.name for bar in resource_bars(bare, ())] == ["RAM"]
    assert "ulimit -v" not in [bar.name for bar in resource_bars(server, ())]
    assert drawn([]) == ""


def test_names_are_shown_letter_by_letter():
    svg = drawn([Bar("<script>&", '"', (Part("<i>李娜</i>", 1, "red"),), 1)])
    assert "<script>" not in svg and "<i>" not in svg
    assert "<script>&" in "".join(ElementTree.fromstring(svg).itertext())


def test_a_label_is_cut_to_its_part_and_left_out_where_it_says_nothing():
    svg = drawn([stacked_bar("x", [("a very long name of an owner", 100), ("other", 900), ("thin", 1)])])
    labels = [text.text for text in ElementTree.fromstring(svg).iter("text") if text.get("class") == "in"]
    assert labels[0].endswith("…") and labels[0].startswith("a very") and labels[1:] == ["other"]
