import json
import os
import signal
import subprocess
import sys
import time

import cv2
import pytest

from deblurkit.cli.app import run
from deblurkit.cli.restore import parsed_tile
from deblurkit.errors import UsageError
from deblurkit.training.tiling import Tile


@pytest.fixture
def trained(tiny_overrides, tmp_path, capsys):
    sets = [part for text in tiny_overrides for part in ("--set", text)]
    assert run(["train", "--preset", "quickstart", *sets]) == 0
    capsys.readouterr()
    return tmp_path / "run"


@pytest.fixture
def scene(dataset_root):
    return dataset_root / "test" / "scene000"


def test_a_sequence_becomes_pictures(trained, scene, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["restore", str(trained), str(scene), "--output", str(out), "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert f"5 frames of 48 x 64 px with spikes -> {out}" in text
    assert "2 tiles of at most 3 x 48 x 64 (frames x rows x columns), peak memory" in text
    assert cv2.imread(str(out / "000004.png")).shape == (48, 64, 3)
    assert run(["restore", str(trained), str(scene), "--output", str(out), "--device", "cpu"]) == 0
    assert "0 frames of 48 x 64 px with spikes (5 more were there)" in capsys.readouterr().out


def test_json_says_what_was_done(trained, scene, tmp_path, capsys):
    options = ["--spikes", str(scene / "spikes.dat"), "--spike-size", "24x32", "--tile", "2x32x32", "--json"]
    assert run(["restore", str(trained), str(scene / "blur"), "-o", str(tmp_path / "out"), *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["frames"], document["tile"], document["spikes"]) == (5, [2, 32, 32], "recorded")
    assert document["peak_bytes"] > 2**20 and document["video"] is None


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ([], 1, "comes without spikes, and this network was trained with them"),
        (["--tile", "32"], 2, "--tile: expected ROWSxCOLUMNS or FRAMESxROWSxCOLUMNS, such as"),
        (["--tile", "32x-4"], 2, "--tile: expected"),
        (["--overlap", "a"], 2, "--overlap: expected"),
        (["--spikes", "none.dat", "--spike-size", "24x32"], 1, "none.dat: no such spike recording"),
        (["--spikes", "none.dat", "--spike-size", "24x30"], 2, "--spike-size: expected ROWSxCOLUMNS"),
        (["--no-spikes", "--spikes", "x.dat"], 2, "--spikes and --no-spikes: give one of them"),
        (["--spike-size", "24x32"], 2, "--spike-size: says how a recording is read; name the recording by"),
        (["--spikes-per-frame", "8"], 2, "--spikes-per-frame: says how a recording is read"),
        (["--tile", "32x32", "--memory", "2"], 2, "--tile and --memory: give one of them"),
        (["--no-spikes", "--tile", "8x8"], 1, "expected tiles larger than their overlap"),
    ],
)
def test_mistakes_are_one_line(trained, scene, tmp_path, capsys, options, code, text):
    arguments = ["restore", str(trained), str(scene / "blur"), "-o", str(tmp_path / "out"), *options]
    assert run([*arguments, "--device", "cpu"]) == code
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1 + error.count("deblurkit: warning")
    assert not (tmp_path / "out").exists()


def test_the_sizes_of_a_tile_are_frames_rows_and_columns():
    assert parsed_tile(None) is None
    assert parsed_tile("6x192X256") == Tile(6, 192, 256)
    assert parsed_tile("192x256") == Tile(0, 192, 256)
    assert parsed_tile("0x24x24", "--overlap") == Tile(0, 24, 24)
    assert parsed_tile("24x24", "--overlap", unsaid=-1) == Tile(-1, 24, 24)
    with pytest.raises(UsageError):
        parsed_tile("0x24x24")


def test_ctrl_c_leaves_whole_frames_and_130(trained, scene, tmp_path):
    """Many small tiles give the time to interrupt; the process is ours alone."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "deblurkit", "restore", str(trained), str(scene), "-o", str(out)]
    command += ["--device", "cpu", "--tile", "1x16x16", "--overlap", "0x8x8"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ}) as process:
        deadline = time.monotonic() + 60
        while not (out / "000000.png").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("done before the signal came")
    assert process.returncode == 130 and error.count("\n") == 1
    assert "each of them whole; the same command goes on from there" in error
    assert all(cv2.imread(str(path)) is not None for path in out.glob("*.png"))
    assert not list(out.glob(".*.partial"))
