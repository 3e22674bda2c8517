import io
import json
import os
import subprocess
import sys

import pytest

from deblurkit.cli.app import run


def sets(overrides):
    return [part for text in overrides for part in ("--set", text)]


@pytest.fixture
def predicted(tiny_overrides):
    return ["diagnose-memory", "--preset", "quickstart", *sets(tiny_overrides)]


def test_the_machine_alone_without_a_configuration(capsys, tmp_path):
    page = tmp_path / "seite 页" / "memory.html"
    assert run(["diagnose-memory", "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert "What this machine gives" in out and "RAM" in out and f"Page: {page}" in out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_json_is_all_that_is_printed_and_names_the_resources(capsys):
    assert run(["diagnose-memory", "--json"]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["changes"] == [] and shown.err == ""
    assert "RAM" in [each["name"] for each in document["resources"]]


def test_a_run_gets_its_verdicts_and_fails_where_that_was_asked(predicted, capsys):
    assert run([*predicted, "--json", "--fail-on", "does-not-fit"]) == 0
    document = json.loads(capsys.readouterr().out)
    ram = next(each for each in document["resources"] if each["name"] == "RAM")
    assert ram["verdict"] == "fits" and 0 < ram["predicted_bytes"] < 2 * 2**30
    phases = document["run"]["step"]["phases"]
    assert {"forward", "backward", "validation"} <= phases.keys()
    assert document["run"]["notes"] == []


def test_a_run_that_does_not_fit_ends_with_the_code_of_a_failed_check(predicted, capsys):
    huge = ["--set", "TRAIN.BATCH_SIZE=100000000"]
    assert run([*predicted, *huge, "--fail-on", "does not fit"]) == 3
    shown = capsys.readouterr()
    assert "does not fit" in shown.out
    assert "--fail-on does-not-fit: RAM: does not fit" in shown.err


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--preset", "quikstart"], 1, "did you mean quickstart?"),
        (["--watch", "0"], 2, "--watch 0: expected seconds from 0.2"),
        (["--watch", "nan"], 2, "--watch nan: expected seconds"),
        (["--watch", "2", "--json"], 2, "--watch and --json"),
        (["--watch", "2", "--html", "x.html"], 2, "--watch and --html"),
        (["--pid", "0"], 2, "--pid"),
        (["--pid", str(2**22 + 1)], 1, f"--pid {2**22 + 1}: no such process"),
        (["--html", "/dev/null/x.html"], 1, "/dev/null"),
        (["--fail-on", "tight"], 2, "--fail-on: expected a configuration as well"),
        (["--preset", "quickstart", "--fail-on", "fits"], 2, "expected one of tight, cannot-know"),
        (["--set", "SEED=1"], 2, "--set: expected a configuration as well"),
        (["--gpus", "2"], 2, "--gpus: expected a configuration"),
        (["/no/such/run"], 1, "/no/such/run: expected the folder of a run"),
        (["x", "--pid", "1"], 2, "leave one out"),
        (["--preset", "quickstart", "--gpus", "0"], 2, "--gpus"),
    ],
)
def test_a_mistake_is_one_line_with_its_code(capsys, options, code, text):
    assert run(["diagnose-memory", *options]) == code
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def test_a_process_that_lives_is_shown_with_those_below_it(capsys):
    assert run(["diagnose-memory", "--pid", str(os.getpid()), "--json"]) == 0
    (tree,) = json.loads(capsys.readouterr().out)["trees"]
    assert tree["pid"] == os.getpid() and tree["total"]["pss_bytes"] > 2**20


def test_a_run_that_has_failed_says_why(capsys, tmp_path):
    part = {"status": "failed", "error": "CUDA out of memory. Tried to allocate 20.00 MiB."}
    (tmp_path / "run.json").write_text(json.dumps({"parts": [part]}))
    assert run(["diagnose-memory", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "certain: CUDA out of memory. Tried to allocate 20.00 MiB. [run.json]" in out


def test_watching_a_process_prints_a_line_a_period_until_it_has_ended(capsys):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        seen = io.StringIO()

        class Tap(io.StringIO):
            def write(self, text):
                if text.count("|"):
                    started.stdin.close()  # and so it ends
                    started.wait()
                return seen.write(text)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", Tap())
            assert run(["diagnose-memory", "--pid", str(started.pid), "--watch", "0.2"]) == 0
    assert "RAM" in seen.getvalue() and f"{started.pid} " in seen.getvalue()
    assert capsys.readouterr().err.endswith(f"process {started.pid} has ended\n")


def test_the_machine_is_looked_at_without_loading_torch():
    code = (
        "import sys\nfrom deblurkit.cli.app import run\n"
        "assert run(['diagnose-memory', '--json']) == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
