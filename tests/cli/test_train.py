import json

import pytest

from deblurkit.cli.app import run


def sets(overrides):
    return [part for text in overrides for part in ("--set", text)]


def test_a_run_ends_with_its_result_and_what_to_do_next(tiny_overrides, tmp_path, capsys):
    assert run(["train", "--preset", "quickstart", *sets(tiny_overrides)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("4 steps in ") and "against the blurry input" in out
    assert f"next: deblurkit evaluate {tmp_path / 'run'}" in out


def test_json_is_the_summary_and_nothing_else(tiny_overrides, tmp_path, capsys):
    folder = tmp_path / "runs #1: 中文"
    assert (
        run(["train", "--preset", "quickstart", *sets(tiny_overrides), "--output", str(folder), "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out) == json.loads((folder / "summary.json").read_text())


def test_a_run_is_resumed_from_its_own_configuration(tiny_overrides, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(["train", "--preset", "quickstart", *sets(tiny_overrides)]) == 0
    assert run(["train", "--output", str(folder)]) == 2
    assert run(["train", "--output", str(folder), "--resume", "auto", "--set", "TRAIN.MAX_STEPS=6"]) == 0
    assert "6 steps in" in capsys.readouterr().out


def test_starting_twice_in_one_folder_is_refused(tiny_overrides, capsys):
    assert run(["train", "--preset", "quickstart", *sets(tiny_overrides)]) == 0
    assert run(["train", "--preset", "quickstart", *sets(tiny_overrides)]) == 1
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["-o", "{}/typo", "--resume", "auto"],
            "--output {}/typo: holds no run (no config.yaml); check the name",
        ),
        (["--resume", "auto"], "--resume auto: expected the run's folder too; add --output DIR"),
        (["--resume", "{}/q1"], "add --output {}/q1 --resume auto"),
        (["--resume", "{}/q1/checkpoints/step_00000002.pt"], "add --output {}/q1 --resume auto"),
    ],
)
def test_a_run_that_cannot_be_found_is_told_with_the_option_that_helps(tmp_path, capsys, arguments, text):
    (tmp_path / "q1").mkdir()
    (tmp_path / "q1" / "config.yaml").touch()
    assert run(["train", *(argument.format(tmp_path) for argument in arguments)]) == 2
    assert text.format(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()
