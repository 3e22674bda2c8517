import json

import pytest
from rich.cells import cell_len

from deblurkit.analysis.report import analyze
from deblurkit.analysis.timing_text import read_text_log
from deblurkit.render.analysis import report_as_text, reports_as_json


def report_of(data_ms=5.0, name="前向传播"):
    blocks = "".join(
        f"{'=' * 80}\nStep {step}\n{'=' * 80}\n{name} : 100.00ms\n  - [bold]注意力 {'长' * 60} : 40.00ms\n"
        f"反向传播 : 200.00ms\n数据加载 : {data_ms:.2f}ms\nTotal : {300 + data_ms:.2f}ms\n"
        for step in range(1, 31)
    )
    return analyze(read_text_log(blocks.encode().split(b"\n"), source="outputs/运行 1/timing_1.log"))


@pytest.mark.parametrize("width", [60, 100])
def test_no_line_is_wider_than_asked_in_columns(width):
    text = report_as_text(report_of(data_ms=90.0), width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text


def test_figures_stand_under_each_other_beside_chinese_names():
    lines = report_as_text(report_of()).splitlines()
    ends = {cell_len(line) for line in lines if line.startswith((" 前向传播", " 反向传播", " 数据加载"))}
    rows = [line for line in lines if line.startswith((" 反向传播", " 数据加载"))]
    assert len(rows) == 2
    assert len({cell_len(row) for row in rows}) == 1
    assert ends


def test_a_report_says_what_it_found():
    text = report_as_text(report_of(data_ms=90.0))
    assert "30 steps. A step takes 390 ms on average" in text
    assert "critical: Training waits for data. [data-bound]" in text
    assert "[bold]" in text  # a name, not markup
    assert "no wall time" in text
    assert "steps a second" not in text


def test_nothing_found_is_said():
    assert "No findings." in report_as_text(report_of())


def test_json_keeps_its_schema():
    document = json.loads(reports_as_json([report_of(data_ms=90.0)]))
    assert document["steps"] == 30
    assert [set(phase) for phase in document["phases"]] == [
        {"name", "mean_ms", "p50_ms", "p95_ms", "share"}
    ] * 3
    assert document["phases"][0] == {
        "name": "反向传播",
        "mean_ms": 200.0,
        "p50_ms": 200.0,
        "p95_ms": 200.0,
        "share": pytest.approx(200 / 390),
    }
    assert [set(finding) for finding in document["findings"]] == [
        {"id", "severity", "title", "evidence", "remedy"}
    ]
    assert document["verdict"].startswith("data-bound")
    assert document["samples_per_second"] is None
    assert {"format", "files", "notes", "damaged_lines", "warmup_steps", "modules", "step_ms"} <= set(
        document
    )


def test_several_reports_are_a_list():
    assert len(json.loads(reports_as_json([report_of(), report_of()]))) == 2


def test_a_summary_has_no_percentiles():
    line = b"forward : avg= 280.00ms  min= 275.00ms  max= 290.00ms  (n=1000)"
    report = analyze(read_text_log([line], source="x"))
    document = json.loads(reports_as_json([report]))
    assert document["phases"][0] == {
        "name": "forward",
        "mean_ms": 280.0,
        "p50_ms": None,
        "p95_ms": None,
        "share": 1.0,
    }
    assert document["step_ms"] == {"mean": 280.0, "p50": None, "p95": None}
    assert "1,000 steps. A step takes 280 ms on average." in report_as_text(report)
