import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deblurkit.cli.prepare_data import app
from deblurkit.data.unified import open_dataset
from deblurkit.errors import DataError, UsageError

SMALL = [
    "--train-sequences",
    "1",
    "--test-sequences",
    "1",
    "--frames",
    "2",
    "--height",
    "32",
    "--width",
    "48",
]


@pytest.fixture(scope="module")
def trees():
    """The module that writes miniature datasets in every layout."""
    path = Path(__file__).parents[1] / "data" / "layouts" / "trees.py"
    spec = importlib.util.spec_from_file_location("dataset_trees", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def save_video(path, frames):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=30)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_synthetic_makes_a_dataset_and_says_what_is_in_it(tmp_path):
    result = run("synthetic", tmp_path / "data", *SMALL)
    assert result.exit_code == 0, result.output
    assert len(open_dataset(tmp_path / "data").sequences("train")) == 1
    lines = result.stdout.splitlines()
    assert lines[1:5] == [
        "train    1 sequences, 2 frames",
        "test     1 sequences, 2 frames",
        "frames   32x48",
        lines[4],
    ]
    assert lines[4].startswith("spikes   16x24, ")
    assert result.stderr == ""  # no progress bar where there is no terminal


def test_json_is_one_document(tmp_path):
    result = run("synthetic", tmp_path / "data", *SMALL, "--seed", 5, "--json")
    summary = json.loads(result.stdout)
    assert summary["train_frames"] == 2
    assert summary["frame_shape"] == [32, 48]
    assert open_dataset(tmp_path / "data").manifest.source["seed"] == 5


def test_video_makes_a_dataset(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (16, 48, 64, 3), dtype=np.uint8)
    path = save_video(tmp_path / "a.mov", frames)
    options = ["--exposure-frames", 3, "--spikes-per-frame", 4, "--height", 32, "--max-frames", 2]
    more = ["--test-share", 0.4, "--blur-variant", "blur_gamma", "--seed", 1, "--json"]
    result = run("video", path, "--output", tmp_path / "data", *options, *more)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["train_sequences"], summary["train_frames"], summary["test_frames"]) == (2, 3, 2)
    dataset = open_dataset(tmp_path / "data")
    assert dataset.manifest.blur_variant == "blur_gamma"
    assert dataset.sequences("train")[0].read_spikes(0).shape[0] == 12


def test_a_taken_folder_is_our_error(tmp_path):
    (tmp_path / "precious").write_text("kept")
    result = run("synthetic", tmp_path, *SMALL)
    assert isinstance(result.exception, DataError)
    assert "not an empty folder" in str(result.exception)


def test_an_unknown_blur_variant_is_a_usage_error(tmp_path):
    result = run("video", "a.mp4", "--output", tmp_path / "data", "--blur-variant", "motion")
    assert result.exit_code == 2
    assert "blur_gamma" in result.output


def test_gopro_converts_and_goes_on_after_a_break(tmp_path, trees):
    trees.gopro_tree(tmp_path / "raw")
    result = run("gopro", tmp_path / "raw", "--output", tmp_path / "data", "--workers", 1, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["train_frames"], summary["test_frames"], summary["spike_shape"]) == (4, 4, [24, 32])
    damaged = tmp_path / "raw/GOPRO_Large/test/GOPR0002_11_00/sharp/000049.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:100])
    again = ["gopro", tmp_path / "raw", "--output", tmp_path / "again", "--workers", 1]
    broken = run(*again)
    assert str(broken.exception).startswith(f"{damaged}: damaged")
    assert "1 of 2 sequences stay in" in broken.stderr
    damaged.write_bytes(whole)
    mended = run(*again)
    assert mended.exit_code == 0 and "1 of 2 sequences are there" in mended.stderr
    assert not list(tmp_path.glob(".again*"))


def test_gopro_simulates_spikes_on_request(tmp_path, trees):
    trees.gopro_tree(tmp_path, spikes=None, all_frames=True)
    command = ["gopro", tmp_path / "GOPRO_Large", "--output", tmp_path / "data", "--workers", 1]
    refused = run(*command)
    assert "--simulate-spikes" in str(refused.exception) and "\n" not in str(refused.exception)
    options = ["--central-spikes", 56, "--blur-variant", "blur_gamma", "--seed", 3]
    made = run(*command, "--simulate-spikes", *options, "--all", tmp_path / "GOPRO_Large_all")
    assert made.exit_code == 0, made.output
    manifest = open_dataset(tmp_path / "data").manifest
    assert manifest.blur_variant == "blur_gamma"
    assert manifest.source["simulated_spikes"]["seed"] == 3
    assert [record.spike_frames_per_exposure for record in manifest.sequences] == [56, 56]


def test_options_that_say_nothing_are_usage_errors(tmp_path, trees):
    trees.spike_gopro_tree(tmp_path / "raw")
    command = ["gopro", tmp_path / "raw", "--output", tmp_path / "data"]
    for options in (["--all", tmp_path], ["--spike-shift", 4]):
        assert isinstance(run(*command, *options).exception, UsageError)
    assert run(*command, "--layout", "gopr0").exit_code == 2


HELP = {
    "synthetic": "Draw a small dataset",
    "video": "Average sharp video",
    "gopro": "Convert GOPRO_Large",
}


@pytest.mark.parametrize("command", HELP)
def test_help_opens_with_what_the_command_does(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert HELP[command] in result.output


def test_the_module_imports_nothing_heavy():
    heavy = {"numpy", "cv2", "av", "pydantic", "rich.progress", "torch"}
    code = f"import sys, deblurkit.cli.prepare_data; print(sorted({heavy!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
