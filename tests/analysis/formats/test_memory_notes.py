import json
import math

import pytest

from deblurkit.analysis.formats.memory_notes import memory_event, memory_figures
from deblurkit.analysis.readers import read_log
from deblurkit.analysis.report import analyze
from deblurkit.timing.logger import TimingLogger

MIB = 2**20


def process(role, pss, *, rss=900):
    return {"role": role, "pid": 1, "rss_bytes": rss * MIB, "pss_bytes": None if pss is None else pss * MIB}


def row(*processes, **more):
    return {
        "step": 100,
        "processes": list(processes) or [process("main", 300), process("worker", 80), process("worker", 70)],
        "limit": {"name": "RAM", "limit_bytes": 1000, "available_bytes": 250},
        **more,
    }


def values(line):
    return {figure.name: figure.value for figure in memory_figures(line)}


def test_processes_add_up_by_role():
    assert values({"memory": row(), "after_step": 100}) == {
        "process_memory_bytes": 450 * MIB,
        "process_memory_bytes/main": 300 * MIB,
        "process_memory_bytes/workers": 150 * MIB,
        "host_memory_share": 0.75,
    }


def test_what_is_not_known_is_left_out_and_rss_takes_the_place_of_pss():
    line = {"memory": row(process("rank", None), limit=None, cache_bytes=None, cuda=None), "after_step": 0}
    assert values(line) == {"process_memory_bytes": 900 * MIB}


def test_the_cache_and_the_gpu_are_told():
    cuda = {"allocated_bytes": 5, "reserved_bytes": 7, "peak_allocated_bytes": 6}
    found = values({"memory": row(process("main", 1), cache_bytes=11, cuda=cuda), "after_step": 3})
    assert (found["cache_bytes"], found["cuda_allocated_bytes"], found["cuda_reserved_bytes"]) == (11, 5, 7)
    assert found["cuda_peak_allocated_bytes"] == 6


@pytest.mark.parametrize(
    "line",
    [
        {"memory": row()},
        {"memory": 5, "after_step": 1},
        {"memory": {}, "after_step": 1},
        {"memory": row({"role": "main", "rss_bytes": -1, "pss_bytes": None}), "after_step": 1},
        {"memory": row({"role": "main", "rss_bytes": True, "pss_bytes": None}), "after_step": 1},
        {"memory": row(limit={"limit_bytes": 0, "available_bytes": 0}), "after_step": 1},
        {"memory": row(limit={"limit_bytes": "9"}), "after_step": 1},
    ],
)
def test_damaged_looks_are_no_figures(line):
    assert memory_figures(line) is None


@pytest.mark.parametrize(
    ("about", "kind"), [("host", "memory-warning"), ("gpu", "memory-warning"), ("leak", "leak")]
)
def test_warnings_are_events(about, kind):
    line = {"memory_warning": {"about": about, "text": "x 内存 y"}, "after_step": 80, "unix_time": 7.5}
    event = memory_event(line)
    assert (event.kind, event.text, event.step, event.unix_s) == (kind, "x 内存 y", 80, 7.5)
    assert memory_event({"memory_warning": {"about": about}, "after_step": 80}) is None


def written(folder, looks, *, warning=None):
    """Write a log of 40 steps with a look after each of some, as a run does; return its files."""
    log = TimingLogger(folder, enable_console=False)
    for step in range(1, 41):
        log.log("forward", 1.0)
        log.step()
        if step in looks:
            line = f"Memory - Process: {looks[step]:.1f}MB (5.0%), System: 1.0/2.0GB (50.0%) | main"
            log.note("memory", row(process("main", looks[step])), line=f"[Step {step}] {line}")
    if warning is not None:
        log.note("memory_warning", warning, line=f"[Step 40] WARNING: {warning['text']}")
    log.close()
    return next(folder.glob("*.jsonl")), next(folder.glob("*.log"))


def test_looks_are_read_from_both_files_of_a_log(tmp_path):
    lines, text = (read_log(path) for path in written(tmp_path, {10: 500, 20: 510}))
    assert (lines.damaged_lines, text.damaged_lines, lines.num_steps, text.num_steps) == (0, 0, 40, 40)
    frame = lines.scalars["process_memory_bytes"]
    assert frame["step"].tolist() == [10, 20]
    assert frame["value"].tolist() == [500 * MIB, 510 * MIB]
    assert frame["unix_s"].notna().all()
    frame = text.scalars["process_memory_bytes"]
    assert (frame["step"].tolist(), frame["value"].tolist()) == ([10, 20], [500e6, 510e6])
    assert math.isnan(frame["unix_s"][0])
    assert text.scalars["host_memory_share"]["value"].tolist() == [0.5, 0.5]


def test_memory_that_grows_is_found_and_its_process_named(tmp_path):
    log = read_log(written(tmp_path, {step: 500 + 10 * step for step in range(1, 41)})[0])
    (finding,) = [found for found in analyze(log, warmup_steps=0).findings if found.id == "memory-creep"]
    assert "memory of the process" in finding.evidence


def test_a_leak_that_the_run_has_told_of_is_a_finding(tmp_path):
    warning = {"about": "leak", "text": "memory of the main process grows by 1.0 MiB a step"}
    log = read_log(written(tmp_path, {20: 500}, warning=warning)[0])
    report = analyze(log, warmup_steps=0)
    (finding,) = [found for found in report.findings if found.id == "memory-creep"]
    assert (finding.severity, finding.steps) == ("warning", (40,))
    assert warning["text"] in finding.evidence
    assert [event.kind for event in log.events] == ["leak"]


def test_a_damaged_look_is_counted(tmp_path):
    path, _ = written(tmp_path, {10: 500})
    text = path.read_text(encoding="utf-8").replace('_bytes":', '":')
    path.write_text(text, encoding="utf-8")
    log = read_log(path)
    assert (log.damaged_lines, dict(log.scalars)) == (1, {})


def test_lines_of_notes_are_whole_objects(tmp_path):
    path, _ = written(tmp_path, {10: 500})
    lines = path.read_text(encoding="utf-8").splitlines()
    notes = [json.loads(line) for line in lines if '"memory":{' in line]
    assert [(note["names"], note["after_step"]) for note in notes] == [(["forward"], 10)]
