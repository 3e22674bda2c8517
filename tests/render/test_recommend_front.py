import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from deblurkit.render.recommend_front import byte_ticks, front_as_svg, ticks
from deblurkit.tuning.recommend.records import Budget


def drawn(found):
    root = ET.fromstring(front_as_svg(found))
    groups = {}
    for group in root.iter("g"):
        title = group.find("title").text.split(": ")[0]
        circle = group.find("circle")
        groups[title] = (group.get("class"), float(circle.get("cx")), float(circle.get("cy")))
    return root, groups


def test_more_memory_is_further_right_and_more_throughput_higher(recommendation):
    _, points = drawn(recommendation())
    best, start = points["batch 3 x 2; optimizer adamw8bit"], points["start"]
    assert best[1] > start[1] and best[2] < start[2]
    assert len(points) == 6


def test_the_scales_are_linear_from_zero(recommendation):
    """20 and 24 GiB, 2.5 and 5 samples/s: the axes' zeros follow from two points."""
    root, points = drawn(recommendation())
    (_, x24, y5), (_, x20, y25) = points["batch 3 x 2; optimizer adamw8bit"], points["start"]
    zero = [text for text in root.iter("text") if text.text == "0 B"][0]
    assert x20 - 5 * (x24 - x20) == pytest.approx(float(zero.get("x")), abs=0.5)
    budget = [line for line in root.iter("line") if line.get("class") == "budget"][0]
    assert float(budget.get("x1")) == pytest.approx(x20 + 3 * (x24 - x20), abs=0.5)  # 32 GiB
    axis = [text for text in root.iter("text") if text.text == "2.00"][0]
    assert float(axis.get("y")) - 4 == pytest.approx(y25 + 0.2 * (y25 - y5), abs=0.5)


def test_start_best_front_and_what_does_not_fit_look_different(recommendation):
    root, points = drawn(recommendation())
    assert points["batch 3 x 2; optimizer adamw8bit"][0] == "point best measured"
    assert points["start"][0] == "point start measured"
    assert points["optimizer adamw8bit; network half"][0] == "point front predicted"
    assert points["batch 6 x 1"][0] == "point over predicted"
    assert points["batch 3 x 2"][0] == "point plain predicted"
    assert {text.text for text in root.iter("text") if text.get("class") == "name"} == {
        "1",
        "2 best",
        "start",
    }


def test_labels_leave_room_for_each_other_and_start_and_best_are_always_named(recommendation):
    """A crowd of 30 points a MiB apart: digits of 13 px are 7 px wide."""
    found = recommendation()
    like = found.front[0]
    crowd = tuple(
        replace(
            like,
            candidate=replace(like.candidate, settings={"SEED": number}),
            peak_bytes=like.peak_bytes + number * 2**20,
        )
        for number in range(30)
    )
    root, _ = drawn(replace(found, rows=(*found.rows, *crowd), front=(*crowd, found.best)))
    labels = [text for text in root.iter("text") if text.get("class") == "name"]
    assert {"start", "31 best"} < {text.text for text in labels} and len(labels) < 10
    places = [(float(text.get("x")), float(text.get("y")), 7 * len(text.text)) for text in labels]
    for at, (x, y, _) in enumerate(places):
        for left, height, long in places[:at] + places[at + 1 :]:
            assert not (left <= x < left + long and abs(y - height) < 12)


def test_the_line_of_the_front_goes_through_its_points(recommendation):
    root, points = drawn(recommendation())
    path = next(root.iter("path")).get("d")
    numbers = [float(number) for number in re.findall(r"[\d.]+", path)]
    first, best = points["optimizer adamw8bit; network half"], points["batch 3 x 2; optimizer adamw8bit"]
    assert numbers == [*first[1:], *best[1:]]


def test_names_are_shown_letter_by_letter(recommendation):
    found = recommendation()
    candidate = replace(found.best.candidate, choices={"<b>": '"&'})
    best = replace(found.best, candidate=candidate)
    root, points = drawn(replace(found, rows=(best, *found.rows[1:]), best=best, front=(best,)))
    assert '<b> "&' in points


def test_what_needs_far_more_than_there_is_does_not_squash_the_rest(recommendation):
    _, points = drawn(recommendation(budget=Budget(device_bytes=24 * 2**30)))  # 40 / 24 > 1.6
    assert "batch 6 x 1" not in points and len(points) == 5
    _, points = drawn(recommendation(budget=Budget()))
    assert len(points) == 6


def test_a_budget_far_beyond_all_is_said_and_not_drawn(recommendation):
    _, there = drawn(recommendation(budget=Budget()))
    root, points = drawn(recommendation(budget=Budget(device_bytes=2**40)))
    assert points == there and "budget 1024.00 GiB, farther to the right" in [
        text.text for text in root.iter("text")
    ]
    assert not [line for line in root.iter("line") if line.get("class") == "budget"]


def test_nothing_known_is_no_picture(recommendation):
    assert front_as_svg(recommendation(rows=(), front=())) == ""


@pytest.mark.parametrize(
    ("most", "expected"),
    [(6.5, [0, 2, 4, 6]), (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (42, [0, 10, 20, 30, 40]), (0.03, None)],
)
def test_ticks_are_round_numbers(most, expected):
    found = ticks(most)
    assert found == pytest.approx(expected or [0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03])


@pytest.mark.parametrize(
    ("most", "step", "last"), [(42 * 2**30, 2**33, 40 * 2**30), (1.2 * 2**30, 2**28, 2**30)]
)
def test_ticks_of_memory_are_multiples_of_a_power_of_two(most, step, last):
    found = byte_ticks(most)
    assert (found[0], found[1], found[-1]) == (0, step, last)
