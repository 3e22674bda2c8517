import numpy as np

from deblurkit.analysis.formats.line_columns import MOST_NAMES, FixedColumns, NamedColumns

MANY = 10_000  # more than are packed at a time


def test_rows_come_back_as_columns():
    columns = FixedColumns(2)
    for row in range(MANY):
        columns.add((row, -row))
    assert len(columns) == MANY
    first, second = columns.arrays()
    assert np.array_equal(first, np.arange(MANY))
    assert np.array_equal(second, -np.arange(MANY))


def test_no_rows_are_empty_columns():
    assert [len(column) for column in FixedColumns(3).arrays()] == [0, 0, 0]
    assert NamedColumns().columns() == {}


def test_names_that_come_and_go_keep_their_rows():
    columns = NamedColumns()
    for row in range(MANY):
        columns.add(row, (("a", "b"), (row, 2.0 * row)) if row % 3 else (("b",), (-1.0,)))
    found = columns.columns()
    assert list(found) == ["b", "a"]
    assert np.array_equal(found["a"].rows, [row for row in range(MANY) if row % 3])
    assert np.array_equal(found["a"].values, found["a"].rows)
    assert np.array_equal(found["b"].rows, np.arange(MANY))
    assert found["b"].values[:4].tolist() == [-1, 2, 4, -1]


def test_names_beyond_the_limit_are_left_out_and_known_ones_go_on():
    columns = NamedColumns()
    for row in range(MOST_NAMES + 5):
        columns.add(row, ((f"name {row}",), (1.0,)))
    columns.add(9_999, (("name 0",), (2.0,)))
    found = columns.columns()
    assert len(found) == MOST_NAMES
    assert columns.has_left_out
    assert found["name 0"].values.tolist() == [1, 2]
