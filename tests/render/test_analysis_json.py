import json

import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.formats.timing_text import read_text_log
from deblurkit.analysis.report import analyze
from deblurkit.analysis.tables import Event, RunLog
from deblurkit.render.analysis_json import report_as_dict, reports_as_json

PHASE = {"name", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "min_ms", "max_ms", "share"}
FINDING = {
    "id",
    "severity",
    "title",
    "evidence",
    "cause",
    "remedy",
    "keys",
    "settings",
    "gain",
    "steps",
    "rank",
}
REPORT = {
    "format",
    "files",
    "rank",
    "world_size",
    "steps",
    "warmup_steps",
    "step_ms",
    "steps_per_second",
    "samples_per_second",
    "phases",
    "modules",
    "findings",
    "verdict",
    "notes",
    "damaged_lines",
    "beside",
    "trend",
    "changes",
    "outliers",
    "epochs",
    "scalars",
    "events",
    "trace",
}


def report_of(data_ms=90.0):
    blocks = "".join(
        f"{'=' * 80}\nStep {step}\n{'=' * 80}\n前向传播 : 100.00ms\n反向传播 : 200.00ms\n"
        f"数据加载 : {data_ms:.2f}ms\nTotal : {300 + data_ms:.2f}ms\n"
        for step in range(1, 31)
    )
    return analyze(read_text_log(blocks.encode().split(b"\n"), source="outputs/运行 1/timing_1.log"))


def log_of(lengths, **more):
    steps = pd.DataFrame(
        {
            "step": np.arange(1, len(lengths) + 1),
            "total_ms": np.asarray(lengths, dtype="float64"),
            "wall_known": True,
            "unix_s": np.nan,
            "count": 1,
            "epoch": 1.0,
        }
    )
    return RunLog("x.log", "basicsr", steps, pd.DataFrame(index=steps.index), len(steps), **more)


def strict(text):
    """Read JSON as strict readers do: NaN and Infinity are none."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_json_keeps_its_schema():
    document = json.loads(reports_as_json([report_of(data_ms=90.0)]))
    assert document["steps"] == 30
    assert set(document) == REPORT
    assert [set(phase) for phase in document["phases"]] == [PHASE] * 3
    assert document["phases"][0] == {
        "name": "反向传播",
        "mean_ms": 200.0,
        "p50_ms": 200.0,
        "p95_ms": 200.0,
        "p99_ms": 200.0,
        "min_ms": 200.0,
        "max_ms": 200.0,
        "share": pytest.approx(200 / 390),
    }
    assert [set(finding) for finding in document["findings"]] == [FINDING]
    [finding] = document["findings"]
    assert set(finding["gain"]) == {"likely", "low", "high", "arithmetic"}
    assert finding["gain"]["likely"] == pytest.approx(390 / 300, abs=1e-4)
    assert finding["keys"][0] == "DATALOADER.TOTAL_WORKERS"
    assert document["verdict"].startswith("data-bound")
    assert document["samples_per_second"] is None


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
        "p99_ms": None,
        "min_ms": None,
        "max_ms": None,
        "share": 1.0,
    }
    assert document["step_ms"] == {
        "mean": 280.0,
        "p50": None,
        "p95": None,
        "p99": None,
        "min": None,
        "max": None,
    }


def test_a_log_without_lengths_is_null_not_nan():
    frame = pd.DataFrame({"step": [1.0, 2.0, 3.0], "unix_s": np.nan, "value": [np.nan, np.inf, np.nan]})
    log = log_of([np.nan] * 3, scalars={"loss": frame}, events=(Event("oom", "CUDA out of memory", 3),) * 2)
    document = strict(reports_as_json([analyze(log)]))
    assert document["step_ms"] is None and document["trend"] is None and document["trace"] is None
    assert document["phases"] == [] and document["epochs"] == []
    assert document["scalars"]["loss"] == {
        "count": 0,
        "first": None,
        "last": None,
        "min": None,
        "max": None,
        "not_finite": 3,
    }
    assert document["events"] == {"oom": 2}


def test_the_course_of_the_run():
    lengths = [100.0] * 200 + [200.0] * 200
    lengths[50] = 470.0
    document = strict(reports_as_json([analyze(log_of(lengths))]))
    assert document["changes"] == [{"step": 201, "before": 100.0, "after": 200.0, "row": "unaccounted"}]
    assert document["outliers"] == [{"step": 51, "ms": 470.0, "row": "unaccounted", "excess_ms": 370.0}]
    assert set(document["trend"]) == {"per_1000_steps", "low", "high", "share"}
    assert document["epochs"] == [
        {"epoch": 1.0, "steps": 400, "mean_ms": 150.925, "p50_ms": 200.0, "first_ms": 100.0}
    ]


def test_the_docs_name_every_key():
    from pathlib import Path

    import deblurkit

    text = (Path(deblurkit.__file__).parents[1] / "docs" / "analyze-log.md").read_text(encoding="utf-8")
    assert not [key for key in REPORT | FINDING | PHASE if key not in text]


def test_numbers_keep_their_digits():
    frame = pd.DataFrame({"step": [1.0], "unix_s": np.nan, "value": [1.25e-7]})
    memory = frame.assign(value=9.0 * 2**30)
    log = log_of([100.0] * 3, scalars={"learning_rate": frame, "process_memory_bytes": memory})
    scalars = report_as_dict(analyze(log))["scalars"]
    assert scalars["learning_rate"]["last"] == 1.25e-7
    assert scalars["process_memory_bytes"]["last"] == 9 * 2**30
