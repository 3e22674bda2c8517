import json

import pytest

from deblurkit.cli.app import run

KEYS = {
    "split",
    "name",
    "frames",
    "spike_rate",
    "dead_share",
    "saturated_share",
    "score",
    "best_shift",
    "best_score",
    "blur_variant",
    "verdict",
    "kinds",
}


@pytest.fixture
def root(tmp_path, capsys):
    options = ["--train-sequences", "1", "--test-sequences", "1", "--frames", "2", "--height", "48"]
    assert run(["prepare-data", "synthetic", str(tmp_path / "数据"), *options]) == 0
    capsys.readouterr()
    return tmp_path / "数据"


def test_a_whole_dataset_is_a_table_and_exit_code_0(root, capsys):
    assert run(["check-data", str(root)]) == 0
    shown = capsys.readouterr()
    assert f"{root}: layout unified" in shown.out
    assert "2 sequences, 4 frames: no problem" in shown.out
    rows = [line.split() for line in shown.out.splitlines() if "scene000" in line]
    assert [(row[0], row[2], row[-1]) for row in rows] == [("train", "2", "ok"), ("test", "2", "ok")]
    assert shown.err == ""  # no progress bar where there is no terminal


def test_json_of_a_whole_dataset_holds_the_three_keys(root, capsys):
    assert run(["check-data", str(root), "--json", "--quick"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["layout", "sequences", "problems"]
    assert document["layout"] == "unified" and document["problems"] == []
    assert [set(sequence) for sequence in document["sequences"]] == [KEYS, KEYS]


def test_a_problem_is_named_and_exit_code_3(root, capsys):
    path = root / "train" / "scene000" / "sharp" / "000001.png"
    path.unlink()
    assert run(["check-data", str(root)]) == 3
    out = capsys.readouterr().out
    assert f"{path}: missing: no such file; fetch it again" in out and "1 problem" in out
    assert run(["check-data", str(root), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert [set(problem) for problem in document["problems"]] == [{"path", "kind", "message"}]
    assert document["problems"][0]["path"] == str(path) and document["problems"][0]["kind"] == "missing"
    assert [sequence["verdict"] for sequence in document["sequences"]] == ["problems", "ok"]


def test_what_quick_leaves_out_is_found_without_it(root, capsys):
    path = root / "train" / "scene000" / "spikes.dat"
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    assert run(["check-data", str(root), "--quick"]) == 0
    assert run(["check-data", str(root)]) == 3
    assert "checksum: its SHA-256 is not the manifest's" in capsys.readouterr().out


def test_a_folder_that_is_no_dataset_is_one_line_and_exit_code_1(tmp_path, capsys):
    assert run(["check-data", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "no known layout" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "options", [["--layout", "davis"], ["--blur-variant", "motion"], ["--spikes", "here"]]
)
def test_options_that_make_no_sense_are_exit_code_2(root, capsys, options):
    assert run(["check-data", str(root), *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
