"""The command on a stub of the search: what it hands over, what it writes, and how it ends."""

import json
import os
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from deblurkit.cli.app import run
from deblurkit.config.load import load_config
from deblurkit.errors import DeblurkitError
from deblurkit.tuning.recommend.records import Budget, Verification

CALL = ["recommend-config", "--preset", "quickstart_vrt"]


@pytest.fixture
def search(monkeypatch, recommendation):
    """A search that hands out a recommendation and keeps what it was asked."""
    seen = SimpleNamespace(question=None, found=recommendation(), error=None, signal=None)

    def recommend(question, *, message, on_progress, on_trial, stopping):
        seen.question = question
        if seen.signal is not None:
            os.kill(os.getpid(), seen.signal)
        message("looking at 6 configurations")
        on_progress("memory", 1, 6)
        on_trial(seen.found.start.candidate, seen.found.trials[0], None)
        on_trial(seen.found.rows[0].candidate, seen.found.trials[2], seen.found.best)
        if seen.error is not None:
            raise seen.error
        return seen.found

    monkeypatch.setattr("deblurkit.tuning.recommend.run.recommend", recommend)
    return seen


def test_the_tables_are_printed_and_trials_told_beside_them(search, capsys):
    assert run(CALL) == 0
    shown = capsys.readouterr()
    assert "Three choices" in shown.out and "2.00 x as fast as the start" in shown.out
    told = shown.err.splitlines()
    assert told[0] == "looking at 6 configurations"
    assert told[1].startswith("trial 1 (batch 1 x 6;") and told[2].startswith("trial 2 (batch 3 x 2;")


def test_options_reach_the_search(search):
    options = ["--set", "SEED=7", "--vram", "24GiB", "--host-memory", "64g", "--devices", "2"]
    options += ["--time-budget", "10m", "--trials", "4", "--allow", "bf16", "--allow", "accuracy"]
    checked = Verification((2.0, 1.6, 2.5), measured=1.9, low=1.8, high=2.1, rounds=3, keeps=True)
    search.found = replace(search.found, verification=checked)
    assert run([*CALL, *options, "--data", "--verify", "--fresh"]) == 0
    asked = search.question
    assert asked.config.seed == 7
    assert asked.budget == Budget(24 * 2**30, 64 * 2**30, trials=4, seconds=600.0)
    assert asked.allow == {"bf16", "accuracy"}
    assert (asked.devices, asked.card, asked.use_data) == (2, None, True)
    assert asked.verify_rounds >= 2 and asked.fresh


def test_without_options_nothing_is_bounded_but_the_trials(search):
    assert run([*CALL, "--gpu", "a6000"]) == 0
    asked = search.question
    assert asked.budget == Budget(trials=10) and asked.allow == frozenset()
    assert (asked.card, asked.use_data, asked.verify_rounds, asked.fresh) == ("a6000", False, 0, False)


def test_a_verification_that_cannot_be_made_is_an_error_behind_the_tables(search, capsys):
    assert run([*CALL, "--verify"]) == 1
    shown = capsys.readouterr()
    assert "--verify: start and recommendation cannot be run in turns here" in shown.err
    assert "Three choices" in shown.out


def test_a_verification_that_failed_says_why(search, capsys):
    search.found = replace(search.found, verification_error="--verify: a trial was killed by SIGKILL")
    assert run([*CALL, "--verify"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "deblurkit: error: --verify: a trial was killed by SIGKILL"
    )


def test_why_nothing_could_be_recommended_is_the_error(search, capsys):
    search.found = replace(search.found, best=None, unpredicted="no prediction: its process was killed")
    assert run(CALL) == 1
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1].endswith("could memory be told: no prediction: its process was killed")
    assert "--vram" not in shown.err and "NOTHING FITS" not in shown.out


@pytest.mark.parametrize("option", ["--output", "--html", "--markdown"])
def test_the_file_that_it_starts_from_is_not_written_over(search, capsys, tmp_path, option):
    start, other = tmp_path / "start.yaml", tmp_path / "link.yaml"
    start.write_text("SEED: 7\n", encoding="utf-8")
    other.symlink_to(start)
    for name in (start, other):
        assert run(["recommend-config", "--config", str(start), option, str(name)]) == 2
        assert f"{name} is the file of --config" in capsys.readouterr().err
    assert start.read_text(encoding="utf-8") == "SEED: 7\n" and search.question is None


def test_the_answer_is_printed_before_files_are_written(search, capsys, tmp_path, monkeypatch):
    def fail(path, text):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("deblurkit.files.write_text", fail)
    assert run([*CALL, "--output", str(tmp_path / "my.yaml")]) == 1
    shown = capsys.readouterr()
    assert "Three choices" in shown.out and "Configuration:" not in shown.out
    assert "No space left on device" in shown.err


def test_a_start_that_is_the_best_needs_no_verification(search):
    search.found = replace(search.found, best=search.found.start, path=(search.found.start,))
    assert run([*CALL, "--verify"]) == 0


def test_json_is_all_that_is_printed(search, capsys):
    assert run([*CALL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"]["samples_per_second"] == 5.0


def test_files_are_written_and_train_takes_the_configuration(search, capsys, tmp_path):
    markdown, page, output = (tmp_path / "é" / name for name in ("t.md", "p.html", "my.yaml"))
    assert run([*CALL, "--markdown", str(markdown), "--html", str(page), "--output", str(output)]) == 0
    out = capsys.readouterr().out
    assert out.endswith(f"Tables: {markdown}\nPage: {page}\nConfiguration: {output}\n")
    assert markdown.read_text(encoding="utf-8").startswith("# The recommendation")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    config = load_config(None, output, [], warn=pytest.fail)
    assert (config.train.batch_size, config.promise.gain) == (3, 2.0)
    assert "# preset quickstart_vrt:" in output.read_text(encoding="utf-8")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_answer_so_far(search, capsys, tmp_path, number, code):
    search.found, search.signal = replace(search.found, stopped="interrupted"), number
    output = tmp_path / "my.yaml"
    assert run([*CALL, "--output", str(output)]) == code
    shown = capsys.readouterr()
    assert "Three choices" in shown.out and output.exists()
    assert shown.err.endswith("deblurkit: error: interrupted\n")
    assert shown.err.count("Ctrl-C once more leaves") == 1


def test_after_ctrl_c_the_files_are_written_though_the_pipe_is_broken(search, monkeypatch, tmp_path):
    """The reader of a pipe has had the terminal's Ctrl-C as well."""
    search.found, search.signal = replace(search.found, stopped="interrupted"), signal.SIGINT
    output, (reader, writer) = tmp_path / "my.yaml", os.pipe()
    os.close(reader)
    with open(writer, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        assert run([*CALL, "--output", str(output)]) == 130
    assert output.exists()


def test_the_verdict_of_a_stopgap_is_said_and_none_is_called_the_fastest(search, capsys):
    stopgap = replace(search.found.rows[1], verdict="nearest to the start")
    search.found = replace(search.found, best=stopgap, is_stopgap=True, stopped="interrupted")
    search.signal = signal.SIGTERM
    assert run(CALL) == 143
    shown = capsys.readouterr().out
    assert "\n  nearest to the start\n" in shown and "Three choices" not in shown
    assert run([*CALL, "--json"]) == 143
    assert json.loads(capsys.readouterr().out)["is_stopgap"]


def test_a_start_of_which_nothing_is_known_yet_is_written_without_a_promise(search, capsys, tmp_path):
    start = replace(search.found.start, estimate=None, peak_bytes=None, host_bytes=None, trial=None)
    only = {"best": start, "start": start, "rows": (start,), "path": (start,), "front": ()}
    search.found, search.signal = replace(search.found, **only, stopped="interrupted"), signal.SIGINT
    markdown, page, output = (tmp_path / name for name in ("t.md", "p.html", "my.yaml"))
    files = ["--markdown", str(markdown), "--html", str(page), "--output", str(output)]
    for more in ([], ["--json"]):
        assert run([*CALL, *files, *more]) == 130
        assert "NOTHING FITS" not in capsys.readouterr().out
    config = load_config(None, output, [], warn=pytest.fail)
    assert config.promise.samples_per_second is None and config.train.batch_size == 1
    assert markdown.exists() and page.exists()


@pytest.mark.parametrize(("keeps", "code"), [(True, 0), (False, 3)])
def test_a_promise_that_fails_is_a_check_that_failed(search, capsys, keeps, code):
    checked = Verification((2.0, 1.6, 2.5), measured=1.9, low=1.8, high=2.1, rounds=3, keeps=keeps)
    search.found = replace(search.found, verification=checked)
    assert run([*CALL, "--verify"]) == code
    assert "Verified: promised 2.00 x" in capsys.readouterr().out


def test_where_nothing_fits_that_is_the_error_and_no_configuration_is_written(search, capsys, tmp_path):
    search.found = replace(search.found, best=None)
    output = tmp_path / "my.yaml"
    assert run([*CALL, "--output", str(output)]) == 1
    shown = capsys.readouterr()
    assert "NOTHING FITS: the least needs 12.00 GiB" in shown.out and "Configuration:" not in shown.out
    assert not output.exists()
    assert "none of 6 configurations fits" in shown.err.splitlines()[-1]


def test_a_mistake_that_the_search_finds_is_one_line(search, capsys):
    search.error = DeblurkitError("--vram: there is no GPU")
    assert run(CALL) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "deblurkit: error: --vram: there is no GPU"


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ([], 2, "expected what to start from: --preset NAME"),
        (["--preset", "quikstart"], 1, "did you mean quickstart?"),
        ([*CALL[1:], "--vram", "24"], 2, "--vram 24: expected a size"),
        ([*CALL[1:], "--host-memory", "lots"], 2, "--host-memory lots: expected a size"),
        ([*CALL[1:], "--time-budget", "10"], 2, "--time-budget 10: expected a duration"),
        ([*CALL[1:], "--allow", "magic"], 2, "--allow"),
        ([*CALL[1:], "--trials", "-1"], 2, "--trials"),
        ([*CALL[1:], "--devices", "0"], 2, "--devices"),
        ([*CALL[1:], "--html", "/dev/null/x.html"], 1, "/dev/null"),
        ([*CALL[1:], "--html", "x.html", "--markdown", "./x.html"], 2, "named by two of"),
    ],
)
def test_a_wrong_call_is_one_line_and_starts_nothing(
    search, capsys, options, code, text, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run(["recommend-config", *options]) == code
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1 and search.question is None
