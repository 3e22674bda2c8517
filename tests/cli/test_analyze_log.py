import json
import os
import shutil
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from deblurkit.cli.analyze_log import analyze_log, expanded
from deblurkit.errors import DeblurkitError, UsageError
from deblurkit.timing.json_lines import JsonLinesLog
from deblurkit.timing.records import StepTiming
from deblurkit.timing.text_log import TextLog, header

ABOUT = {"rank": 0, "world_size": 1, "clock": "host", "samples_per_step": 8, "started_at": 0.0}
PHASES = {"data": 4.0, "forward": 100.0, "forward/Stage1": 60.0, "backward": 200.0, "optimizer": 6.0}
app = typer.Typer()
app.command()(analyze_log)


@pytest.fixture
def run_folder(tmp_path):
    """A run of 30 steps of 320 ms, the first one of 3 s, as our logger leaves it: text and JSON lines."""
    text = TextLog(tmp_path / "timing_1.log", head=header(**ABOUT), flush_interval=10)
    lines = JsonLinesLog(tmp_path / "timing_1.rank0.jsonl", flush_interval=10, **ABOUT)
    for step in range(1, 31):
        timing = StepTiming(step, float(step), 3000.0 if step == 1 else 320.0, PHASES)
        text.write_step(timing, PHASES)
        lines.write_step(timing)
    text.close()
    lines.close()
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_text_and_json_lines_of_one_run_agree(run_folder):
    result = invoke(run_folder / "timing_1.log", run_folder / "timing_1.rank0.jsonl", "--json")
    assert result.exit_code == 0, result.output
    text, lines = json.loads(result.stdout)
    for report in (text, lines):
        assert (report["steps"], report["warmup_steps"]) == (30, 1)
        assert report["step_ms"]["mean"] == pytest.approx(320)
        assert report["samples_per_second"] == pytest.approx(25)  # 8 samples in 0.32 s
        assert report["findings"] == []
        assert sum(phase["share"] for phase in report["phases"]) == pytest.approx(1)
    shares = {phase["name"]: phase["share"] for phase in lines["phases"]}
    expected = {"backward": 200, "forward": 100, "unaccounted": 10, "optimizer": 6, "data": 4}
    assert shares == pytest.approx({name: ms / 320 for name, ms in expected.items()})
    assert text["phases"] == lines["phases"]


def test_one_file_is_one_object_and_the_warmup_can_be_forced(run_folder):
    result = invoke(run_folder / "timing_1.log", "--json", "--warmup", 0)
    assert json.loads(result.stdout)["step_ms"]["mean"] == pytest.approx((3000 + 29 * 320) / 30)


def test_the_text_report_begins_with_the_file_and_the_verdict(run_folder):
    result = invoke(run_folder / "timing_1.log")
    assert (
        "Verdict: compute-bound: forward + backward are 93.8 % of a 320 ms step; data 1.2 %" in result.stdout
    )
    assert "\x1b" not in result.stdout


def test_globs_that_the_shell_left_are_expanded(run_folder):
    assert expanded([f"{run_folder}/timing_*"]) == sorted(run_folder.iterdir())
    with pytest.raises(DeblurkitError, match="no file matches"):
        expanded([f"{run_folder}/other_*.log"])


def test_a_run_s_folder_stands_for_its_logs(run_folder, tmp_path):
    run = tmp_path / "run"
    (run / "logs").mkdir(parents=True)
    (run_folder / "timing_1.log").rename(run / "logs" / "timing_1.log")
    assert expanded([str(run)]) == [run / "logs" / "timing_1.log"]
    (run_folder / "timing_1.rank0.jsonl").rename(run / "logs" / "timing_1.rank0.jsonl")
    JsonLinesLog(run / "logs" / "timing_2.rank0.jsonl", flush_interval=1, **ABOUT).close()  # of no step
    assert expanded([str(run)]) == expanded([str(run / "logs")]) == [run / "logs" / "timing_1.rank0.jsonl"]
    assert json.loads(invoke(run, "--json").stdout)["steps"] == 30


def test_a_folder_without_logs_is_told_with_a_pattern_that_matches(run_folder, tmp_path):
    (tmp_path / "runs" / "a" / "logs").mkdir(parents=True)
    with pytest.raises(
        DeblurkitError, match="without timing logs; expected a run's, with logs/timing_.*in it$"
    ):
        expanded([str(tmp_path / "runs")])
    (run_folder / "timing_1.log").rename(tmp_path / "runs" / "a" / "logs" / "timing_1.log")
    with pytest.raises(DeblurkitError) as caught:
        expanded([str(tmp_path / "runs")])
    assert str(caught.value).endswith(f": try '{tmp_path}/runs/*/logs/timing_*.log'")
    assert len(expanded([str(caught.value).split("'")[-2]])) == 1


def test_a_name_with_brackets_is_a_name_first(tmp_path):
    (tmp_path / "run[1].log").touch()
    assert expanded([f"{tmp_path}/run[1].log"]) == [tmp_path / "run[1].log"]


def test_errors_reach_the_boundary_as_ours(run_folder):
    result = invoke(run_folder / "timing_1.log", run_folder / "missing.log")
    assert isinstance(result.exception, DeblurkitError)
    assert "missing.log: no such file" in str(result.exception)
    assert result.stdout == ""


def test_importing_the_command_imports_no_pandas():
    check = "import sys, deblurkit.cli.analyze_log; sys.exit(bool({'pandas', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.fixture
def two_runs(tmp_path):
    """Runs of 200 steps, the second with a forward pass that is a fifth slower (330 against 310 ms)."""
    paths = []
    for name, forward in (("a", 100.0), ("b", 120.0)):
        path = tmp_path / f"{name}.jsonl"
        log = JsonLinesLog(path, flush_interval=10, **ABOUT)
        for step in range(1, 201):
            wobble = 1 + 0.01 * ((step * 7919) % 11 - 5) / 5  # one in a hundred, in no order
            phases = {"data": 4.0, "forward": forward * wobble, "backward": 200.0 * wobble, "optimizer": 6.0}
            log.write_step(StepTiming(step, float(step), sum(phases.values()), phases))
        log.close()
        paths.append(path)
    return paths


def test_a_comparison_names_what_changed_and_fails_on_what_was_asked(two_runs):
    a, b = two_runs
    result = invoke("--compare", a, b, "--json")
    assert result.exit_code == 0, result.output
    comparison = json.loads(result.stdout)
    forward = next(row for row in comparison["phases"] if row["key"] == "forward")
    assert forward["difference_ms"]["value"] == pytest.approx(20, abs=0.5)
    assert invoke("--compare", a, b, "--fail-on", "moderate").exit_code == 3  # 330 against 310 ms: 6.5 %
    assert invoke("--compare", a, b, "--fail-on", "material").exit_code == 0
    assert invoke("--compare", b, a, "--fail-on", "moderate").exit_code == 0  # quicker is no fault


def test_every_export_is_written_beside_the_report(two_runs, tmp_path):
    out = tmp_path / "out"
    result = invoke(
        two_runs[0],
        *("--csv", out / "steps.csv", "--tensorboard", out / "tb", "--perfetto", out / "trace.json"),
    )
    assert result.exit_code == 0, result.output
    assert len((out / "steps.csv").read_text(encoding="utf-8-sig").splitlines()) == 201
    assert json.loads((out / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    assert list((out / "tb").rglob("events.out.tfevents.*"))
    assert "Table: " in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.log", "--compare", "a.log", "b.log"],
        ["a.log", "--fail-on", "material"],
        ["--compare", "a.log", "b.log", "--fail-on", "much"],
        ["a.log", "--follow", "--html", "x.html"],
        ["a.log", "--follow", "--json"],
        ["--compare", "-", "-"],
        ["a.log", ""],
        ["a.log", "--csv", "x", "--html", "x"],
    ],
)
def test_options_that_do_not_go_together_are_told_before_anything_is_read(arguments):
    result = invoke(*arguments)
    assert isinstance(result.exception, UsageError)
    said = ("expected", "goes with no", "read once only", "is empty", "the same place")
    assert any(words in str(result.exception) for words in said)


def test_a_log_from_standard_input_is_read(two_runs):
    result = CliRunner().invoke(app, ["-", "--json"], input=two_runs[0].read_bytes())
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["steps"] == 200


@pytest.mark.parametrize("option", ["--csv", "--html", "--perfetto"])
@pytest.mark.parametrize("way", ["file", "compare"])
def test_no_log_is_written_over(two_runs, monkeypatch, option, way):
    a, b = two_runs
    before = b.read_bytes()
    monkeypatch.chdir(b.parent)
    result = invoke(*(["--compare"] if way == "compare" else []), a, b, option, b.name)
    assert isinstance(result.exception, DeblurkitError)
    assert f"{option} {b.name} is one of the logs" in str(result.exception)
    assert b.read_bytes() == before


def test_a_pipe_and_a_file_for_a_folder_are_no_places_to_write_to(two_runs, tmp_path):
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_text("mine")
    for option, path, words in (
        ("--csv", pipe, "device or a pipe"),
        ("--html", "/dev/of_no_such_name", "device or a pipe"),
        ("--tensorboard", file, "a folder"),
    ):
        result = invoke(two_runs[0], option, path)
        assert isinstance(result.exception, DeblurkitError)
        assert words in str(result.exception)
    assert pipe.is_fifo()
    assert file.read_text() == "mine"


def test_a_name_that_is_no_utf_8_can_be_shown_and_exported(two_runs, tmp_path):
    odd = os.fsdecode(b"\xc8\xd5\xff.jsonl")  # as a machine that speaks another code writes it
    shutil.copy(two_runs[0], tmp_path / odd)
    table, trace = tmp_path / "steps.csv", tmp_path / "trace.json"
    for options in ([], ["--json"], ["--csv", table, "--perfetto", trace]):
        result = invoke(tmp_path / odd, *options)
        assert result.exit_code == 0, result.exception
        assert "???.jsonl" in result.stdout
    assert "???.jsonl" in table.read_text(encoding="utf-8-sig")
    assert "???.jsonl" in trace.read_text(encoding="utf-8")


def test_a_glob_leaves_out_logs_of_runs_that_took_no_step(two_runs, tmp_path):
    took = tmp_path / "timing_1.rank0.jsonl"
    two_runs[0].rename(took)
    JsonLinesLog(tmp_path / "timing_2.rank0.jsonl", flush_interval=1, **ABOUT).close()
    assert expanded([f"{tmp_path}/timing_*.jsonl"]) == [took]
    took.unlink()
    assert len(expanded([f"{tmp_path}/timing_*.jsonl"])) == 1  # its reader says what is missing
