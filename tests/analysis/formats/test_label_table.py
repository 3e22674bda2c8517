import numpy as np

from deblurkit.analysis.formats import label_table
from deblurkit.analysis.formats.label_table import LABEL_BYTES, UNKNOWN, Label, LabelTable, PathTable

INDENT = {"": 0, "  - ": 1, "    - ": 2}


def label_of(raw):
    text = raw.decode("utf-8", "replace")
    indent = text[: len(text) - len(text.lstrip(" -"))]
    return Label(INDENT.get(indent, 0), text.lstrip(" -"))


def numbers_of(table, labels):
    raws = [label.encode() for label in labels]
    text = b"\n" * 8 + b"\n".join(raws) + b"\n" * LABEL_BYTES
    starts = 8 + np.cumsum([0, *(len(raw) + 1 for raw in raws[:-1])])
    return table.numbers(text, starts, starts + [len(raw) for raw in raws]).tolist()


def test_a_label_keeps_its_number_and_its_padding_does_not_name_it():
    table = LabelTable(label_of)
    labels = ["前向传播总耗时     ", "  - Stage1    ", "前向传播总耗时", "  - Stage1    "]
    assert numbers_of(table, labels) == [0, 1, 2, 1]
    assert table.names == ["前向传播总耗时", "Stage1", "前向传播总耗时"]
    assert numbers_of(table, ["  - Stage1    ", "Total", "前向传播总耗时"]) == [1, 3, 2]
    assert table.depths.tolist() == [0, 1, 0, 0, UNKNOWN]
    assert table.totals.tolist() == [False, False, False, True, False]


def test_what_is_empty_or_too_long_is_no_label():
    table = LabelTable(label_of)
    long = "名" * (LABEL_BYTES // 3)
    assert numbers_of(table, ["", "   ", "x" * (LABEL_BYTES + 1), long]) == [UNKNOWN, UNKNOWN, UNKNOWN, 0]
    assert table.names == [long]


def test_labels_of_the_same_hash_are_not_taken_for_each_other(monkeypatch):
    monkeypatch.setattr(label_table, "_FACTORS", np.zeros(LABEL_BYTES // 8, dtype=np.uint64))
    table = LabelTable(label_of)
    assert numbers_of(table, ["a", "b", "a"]) == [0, UNKNOWN, 0]


def test_no_more_labels_are_learned_than_memory_holds(monkeypatch):
    monkeypatch.setattr(label_table, "_MOST_LABELS", 2)
    table = LabelTable(label_of)
    assert numbers_of(table, ["a", "b"]) == [0, 1]
    assert numbers_of(table, ["c", "b"]) == [UNKNOWN, 1]


def test_rows_lie_inside_the_row_above_that_is_indented_less():
    table = LabelTable(label_of)
    rows = ["a", "  - x", "    - y", "  - z", "b", "  - x", "c ", "    - y", "b  ", "  - x"]
    paths = PathTable(table)
    found = paths.numbers(np.array(numbers_of(table, rows)))
    names = [paths.names[number] for number in found]
    assert names == ["a", "a/x", "a/x/y", "a/z", "b", "b/x", "c", "c/y", "b", "b/x"]
    assert found[4] == found[8] and found[5] == found[9]  # padded in two ways, and yet one name
