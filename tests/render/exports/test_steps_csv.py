import codecs
import csv
import dataclasses

import pandas as pd
import pytest

from deblurkit.render.exports.steps_csv import write_csv


def read(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_line_per_step_with_its_rows(tmp_path, rank_report, began):
    path = tmp_path / "new" / "steps.csv"
    write_csv([rank_report()], path)
    lines = read(path)
    assert list(lines[0]) == [
        *("source", "rank", "step", "epoch", "unix_s", "count", "total_ms"),
        *("前向传播_ms", "前向传播/编码器_ms", "data_ms", "backward_ms", "unaccounted_ms"),
    ]
    assert [line["step"] for line in lines] == ["1", "2", "3"]
    assert lines[0]["data_ms"] == ""
    assert (lines[2]["source"], lines[2]["rank"], lines[2]["epoch"]) == ("run/timing.rank0.jsonl", "0", "1")
    assert float(lines[2]["unix_s"]) == pytest.approx(began + 0.83, abs=1e-3)
    for line, total in zip(lines, (100, 110, 120), strict=True):
        parts = ("前向传播_ms", "data_ms", "backward_ms", "unaccounted_ms")
        assert float(line["total_ms"]) == total
        assert sum(float(line[part] or 0) for part in parts) == pytest.approx(total)


def test_excel_is_told_that_it_is_utf_8_and_lines_end_as_the_standard_says(tmp_path, rank_report):
    write_csv([rank_report()], tmp_path / "steps.csv")
    content = (tmp_path / "steps.csv").read_bytes()
    assert content.startswith(codecs.BOM_UTF8 + b"source,")
    assert content.count(b"\r\n") == content.count(b"\n") == 4
    frame = pd.read_csv(tmp_path / "steps.csv")
    assert frame["前向传播_ms"].tolist() == [60.0, 60.0, 70.0]


def test_several_logs_have_the_columns_of_all(tmp_path, rank_report, report_without_wall_time):
    write_csv([rank_report(), report_without_wall_time], tmp_path / "steps.csv")
    lines = read(tmp_path / "steps.csv")
    assert len(lines) == 5
    assert lines[0]["forward_ms"] == "" and lines[4]["前向传播_ms"] == ""
    last = {key: value for key, value in lines[4].items() if value}
    assert last == {
        "source": "other.log",
        "step": "20",
        "count": "10",
        "total_ms": "50.0000",
        "forward_ms": "20.0000",
        "backward_ms": "30.0000",
    }


def test_no_name_is_a_formula_or_another_column(tmp_path, rank_report):
    report = rank_report(source="=1+1.log")
    times = report.partition.times.rename(columns={"data": "@SUM(A1)", "backward": "total"})
    partition = dataclasses.replace(report.partition, times=times)
    write_csv([dataclasses.replace(report, partition=partition)], tmp_path / "steps.csv")
    (line, *_) = read(tmp_path / "steps.csv")
    assert line["source"] == "'=1+1.log"
    assert "'@SUM(A1)_ms" in line
    assert (line["total_ms"], line["total (row)_ms"]) == ("100.0000", "30.0000")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, rank_report, monkeypatch):
    path = tmp_path / "steps.csv"
    path.write_text("old")
    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda *_, **__: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_csv([rank_report()], path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_without_rows(tmp_path, bare_report):
    write_csv([bare_report], tmp_path / "steps.csv")
    lines = read(tmp_path / "steps.csv")
    assert [(line["step"], float(line["total_ms"])) for line in lines] == [
        (str(step), 100.0) for step in range(1, bare_report.steps + 1)
    ]
