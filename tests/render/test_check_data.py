import json
from pathlib import Path

from deblurkit.data.checks.report import DatasetReport, SequenceReport, problem
from deblurkit.render.check_data import check_as_json, check_as_text

ROOT = Path("/数据/GOPRO")


def report(*problems):
    sequences = (
        SequenceReport("train", "街道_0372_07_00", 86, 0.25, 0.0, 0.0, 0.97, 0, 0.97, "blur"),
        SequenceReport("test", "GOPR0384_11_00", 100, kinds=tuple(dict.fromkeys(p.kind for p in problems))),
    )
    return DatasetReport("gopro", ROOT, sequences, problems)


def test_a_row_for_each_sequence_whatever_script_its_name_is_in():
    lines = check_as_text(report()).splitlines()
    rows = [line.split() for line in lines if "0372" in line or "0384" in line]
    assert rows[0] == ["train", "街道_0372_07_00", "86", "0.250", "0.970", "+0", "blur", "ok"]
    assert rows[1] == ["test", "GOPR0384_11_00", "100", "-", "-", "-", "-", "ok"]
    assert lines[-1] == "2 sequences, 186 frames: no problem"


def test_a_line_for_each_problem_and_a_count_of_many_alike():
    missing = [problem(ROOT / "a" / f"{n}.png", "missing", "missing") for n in range(9)]
    text = check_as_text(report(*missing, problem(ROOT / "b.dat", "flipped", "upside down")))
    assert f"{ROOT}/a/0.png: missing: missing; fetch it again, or leave its frame out" in text
    assert f"{ROOT}/a: missing: and 4 more (--json lists all)" in text
    assert f"{ROOT}/b.dat: flipped: upside down; turn its frames as the pictures are" in text
    assert "/a/5.png" not in text and text.endswith("10 problems\n")


def test_json_lists_all_and_keeps_letters_as_they_are():
    found = [problem(ROOT / f"{n}.png", "missing", "missing") for n in range(9)]
    text = check_as_json(report(*found))
    document = json.loads(text)
    assert len(document["problems"]) == 9 and "街道" in text
    assert document["sequences"][1]["kinds"] == ["missing"]
    assert document["sequences"][0]["spike_rate"] == 0.25
