import json

import pytest

from deblurkit.cli.app import run


def sets(overrides):
    return [part for text in overrides for part in ("--set", text)]


@pytest.fixture
def command(tiny_overrides):
    return ["profile-step", "--preset", "quickstart", "--steps", "1", "--warmup", "0", *sets(tiny_overrides)]


def test_every_output_of_one_call(command, tmp_path, capsys):
    files = [tmp_path / "out 中文" / name for name in ("step.html", "trace.json", "torch.json")]
    options = zip(("--html", "--trace", "--torch-profiler"), map(str, files), strict=True)
    assert run([*command, "--json", *(part for option in options for part in option)]) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["architecture"] == "baseline" and document["steps"] == 1 and shown.err == ""
    page, trace, torch_trace = (file.read_text(encoding="utf-8") for file in files)
    assert page.startswith("<!doctype html>") and "encoders.0" in page
    assert {"step 1", "forward", "encoders.0"} <= {
        event["name"] for event in json.loads(trace)["traceEvents"]
    }
    assert {"frames_in", "mixers.0/mix"} <= {
        event["name"] for event in json.loads(torch_trace)["traceEvents"]
    }
    assert not (tmp_path / "run").exists()


def test_the_table_and_where_the_files_are(command, tmp_path, capsys):
    page = tmp_path / "step.html"
    assert run([*command, "--modules", "frames", "--html", str(page), "--verbose", "shapes"]) == 0
    out = capsys.readouterr().out
    assert "frames_in" in out and "encoders" not in out and f"Picture: {page}" in out
    assert "[frames_out] (6, " in out


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--modules", "("], 2, "--modules (: expected a regular expression"),
        (["--modules", "nowhere"], 2, "finds none of the"),
        (["--modules", "x", "--depth", "2"], 2, "leave one out"),
        (["--steps", "0"], 2, "--steps"),
        (["--depth", "0"], 2, "--depth"),
        (["--html", "/dev/null/x.html"], 1, "/dev/null"),
        (["--trace", "/"], 1, "/"),
        (["--data", "--set", "DATA.ROOT=/no/such", "--set", "DATA.AUTO_SYNTHETIC=false"], 1, "/no/such"),
        (
            ["--set", "LOSS.VGG_PERCEPTUAL.WEIGHT=1", "--set", "LOSS.VGG_PERCEPTUAL.WEIGHTS=/no/such.pth"],
            1,
            "LOSS.VGG_PERCEPTUAL.WEIGHT",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_code(command, capsys, options, code, text):
    assert run([*command, *options]) == code
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def test_it_has_to_be_told_what_to_profile(capsys):
    assert run(["profile-step"]) == 2
    assert "expected what to profile" in capsys.readouterr().err
