import json

import cv2
import pytest

from deblurkit.cli.app import run


@pytest.fixture
def trained(tiny_overrides, tmp_path, capsys):
    sets = [part for text in tiny_overrides for part in ("--set", text)]
    assert run(["train", "--preset", "quickstart", *sets]) == 0
    capsys.readouterr()
    return tmp_path / "run"


def test_scores_ablation_and_picture(trained, tmp_path, capsys):
    picture = tmp_path / "before_after.png"
    assert run(["evaluate", str(trained), "--ablate-spikes", "--picture", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "Held-out sequences" in out and "zeroed" in out and "Protocol vrt" in out
    assert out.count("\nSpikes: ") == 2 and "shuffled" in out and f"Picture: {picture}" in out
    assert cv2.imread(str(picture)).shape[1] == 3 * 320 + 12  # frames of 64 pixels, five times as large


def test_json_holds_both_ways(trained, capsys):
    assert run(["evaluate", str(trained), "--ablate-spikes", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"restored", "spikes zeroed", "spikes shuffled"}
    assert document["restored"]["protocol"] == "vrt"
    summary = json.loads((trained / "summary.json").read_text())
    assert document["restored"]["psnr_db"] == pytest.approx(summary["validation"]["psnr_db"])
    assert (document["restored"]["step"], document["restored"]["split"]) == (4, "test")


def test_another_protocol_and_tiles(trained, capsys):
    assert run(["evaluate", str(trained), "--protocol", "y", "--tile", "32x40", "--quick", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["restored"]
    assert (document["protocol"], document["split_sequences"]) == ("y", 1)
    assert (document["tile"], document["tile_overlap"]) == ([32, 40], [2, 8, 10])
    assert run(["evaluate", str(trained), "--tile", "32"]) == 2
    assert "--tile: expected ROWSxCOLUMNS" in capsys.readouterr().err


def test_mistakes_are_one_line(trained, tmp_path, capsys):
    weights = ["--lpips", "alex", "--lpips-weights", str(tmp_path / "none.pth")]
    for options, told in (
        (["--tile", "8x8"], "expected tiles larger than their overlap"),
        (weights, "or name it by --lpips-weights PATH"),
    ):
        assert run(["evaluate", str(trained), "--device", "cpu", *options]) == 1
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1
