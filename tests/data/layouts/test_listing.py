import pytest

from deblurkit.data.layouts.listing import (
    counting_order,
    described,
    merged,
    split_sequences,
    stems,
    subfolders,
)
from deblurkit.errors import DataError


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_names_come_in_the_order_in_which_people_count(tmp_path):
    for name in ("10.png", "9.png", "a.dat", ".hidden.png", "b.png/inside"):
        touch(tmp_path / name)
    assert stems(tmp_path, ".png") == ["9", "10"]
    assert subfolders(tmp_path) == [tmp_path / "b.png"]
    assert merged(["2", "10"], ["2", "1"]) == ["1", "2", "10"]
    assert sorted(["s10_2", "s9_11", "s9_2", "t"], key=counting_order) == ["s9_2", "s9_11", "s10_2", "t"]


def test_sequences_are_those_of_train_and_then_of_test(tmp_path):
    for name in ("test/a/x", "train/b/x", "train/a/x", "other/c/x"):
        touch(tmp_path / name)
    assert [(split, folder.name) for split, folder in split_sequences(tmp_path)] == [
        ("train", "a"),
        ("train", "b"),
        ("test", "a"),
    ]


def test_what_is_not_there_is_empty_and_what_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    assert stems(tmp_path / "no", ".png") == [] and subfolders(tmp_path / "no") == []
    assert described(tmp_path) == "nothing" and "nothing that can be read" in described(tmp_path / "no")

    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        stems(tmp_path, ".png")


def test_a_description_names_a_few_and_counts_the_rest(tmp_path):
    for index in range(9):
        touch(tmp_path / f"f{index}")
    assert described(tmp_path, shown=2) == "f0, f1 and 7 more"
