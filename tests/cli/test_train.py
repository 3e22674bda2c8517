import json

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
