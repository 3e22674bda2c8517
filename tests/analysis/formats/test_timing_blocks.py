import math

import numpy as np

from deblurkit.analysis.formats.label_table import Label
from deblurkit.analysis.formats.timing_blocks import BlockFinder

RULE = "=" * 80


def label_of(raw):
    text = raw.decode()
    return Label(1, text[4:]) if text.startswith("  - ") else Label(0, text)


def step(number, *rows):
    """Return the block of a step; rows of an indent, a name and milliseconds."""
    lines = []
    for indent, name, ms in rows:
        share = "" if indent else " ( 50.0%)"
        lines.append(f"{indent}{name:<20}: {ms:8.2f}ms{share} [avg: {1:8.2f}ms]\n")
    return f"{RULE}\nStep {number}\n{RULE}\n{''.join(lines)}{'Total':-<40}: {number:8.2f}ms\n"


STEPS = [
    step(7, ("", "前向", 5.5), ("  - ", "a", 1.25), ("", "backward", 4)),
    step(8, ("", "backward", 6), ("", "前向", 3), ("  - ", "b", 1), ("  - ", "b", 2)),
    step(9, ("", "前向", 1)),
]


def found(text):
    finder = BlockFinder(label_of)
    result = []
    for blocks in finder.find(text.encode()):
        paths, times = blocks.table()
        columns = dict(zip([finder.paths[path] for path in paths], times.tolist(), strict=True))
        result.append((text.encode()[blocks.start : blocks.end].decode(), blocks, columns))
    return result


def test_steps_are_found_with_their_times_in_whatever_order_rows_come():
    ((text, blocks, columns),) = found("".join(STEPS))
    assert text == "".join(STEPS)
    assert blocks.numbers.tolist() == [7, 8, 9]
    assert blocks.total_ms.tolist() == [7, 8, 9]
    expected = {
        "前向": [5.5, 3, 1],
        "前向/a": [1.25, math.nan, math.nan],
        "backward": [4, 6, math.nan],
        "前向/b": [math.nan, 3, math.nan],  # twice in one step
    }
    assert list(columns) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(columns[name], values)


def test_empty_lines_between_steps_do_not_part_them():
    text = "\n" + "\n\n".join(STEPS) + "\n"
    assert [part for part, _, _ in found(text)] == [text.strip("\n") + "\n"]


def test_what_lies_between_steps_parts_them():
    text = "".join(STEPS) + "what is this\n" + "".join(STEPS)
    assert [part for part, _, _ in found(text)] == ["".join(STEPS)] * 2


def test_a_step_that_is_otherwise_is_left_to_the_reader_of_lines():
    spoiled = {
        "a number that is none": STEPS[0].replace("Step 7", "Step x"),
        "no total": STEPS[0].rpartition("Total")[0],
        "no rule": STEPS[0].replace(RULE, "", 1),
        "a part before its parent": STEPS[0].replace("前向", "  - x"),
        "another line inside": STEPS[0].replace("  - a", "hello\n  - a"),
        "no row": f"{RULE}\nStep 7\n{RULE}\n{'Total':-<40}: {1:8.2f}ms\n",
        "a wide number": STEPS[0].replace("    5.50ms", "100005.50ms"),
    }
    good = "".join(STEPS)
    for fault, text in spoiled.items():
        assert [part for part, _, _ in found(good + text + good)] == [good, good], fault
    assert found(STEPS[0] + "hello\n" + STEPS[0]) == []  # too few to be worth it


def test_a_text_without_steps_has_none():
    assert found("") == []
    assert found("hello\nTotal: 1.00ms") == []
