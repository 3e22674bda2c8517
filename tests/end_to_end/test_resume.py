"""A killed run goes on as if nothing had happened: bit for bit, on a CPU."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from deblurkit.training import run
from deblurkit.training.checkpoint import checkpoints_in, load_checkpoint

RUN = [sys.executable, "-m", "deblurkit", "train", "--preset", "quickstart"]
KILLED_WHILE_WRITING = """
import os, signal, sys, torch
from deblurkit.cli.app import main
saves = []
real = torch.save
def save(state, file):
    saves.append(state["step"])
    if len(saves) == 2:
        file.write(b"half a checkpoint")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    real(state, file)
torch.save = save
main(sys.argv[1:])
"""


def arguments(overrides):
    return [part for text in overrides for part in ("--set", text)]


def kill_while_writing(overrides):
    """Run until the second checkpoint is half written, and die of SIGKILL there."""
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, *RUN[3:], *arguments(overrides)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def same_state(one, other):
    first, second = (load_checkpoint(checkpoints_in(folder / "checkpoints")[-1]) for folder in (one, other))
    return [
        key
        for key in ("step", "model", "optimizer", "scaler", "random")
        if not equal(first[key], second[key])
    ]


@pytest.fixture
def long_overrides(tiny_overrides):
    return [*tiny_overrides, "TRAIN.MAX_STEPS=20", "LOG.SAVE_EVERY_STEPS=10", "DATALOADER.TRAIN_WORKERS=1"]


def test_ten_steps_kill_resume_ten_steps_are_twenty_steps(tiny_config, long_overrides, tmp_path, Watcher):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [*RUN, *arguments([*long_overrides, f"LOG.SAVE_DIR={killed}"])]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not checkpoints_in(killed / "checkpoints") and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.wait()
    left = [int(path.stem.split("_")[1]) for path in checkpoints_in(killed / "checkpoints")]
    assert left in ([10], [10, 20])  # the run may have been quicker than the signal
    if left == [10, 20]:
        checkpoints_in(killed / "checkpoints")[-1].unlink()
    subprocess.run([*command, "--resume", "auto"], env=environment, check=True, capture_output=True)
    subprocess.run(
        [*RUN, *arguments([*long_overrides, f"LOG.SAVE_DIR={whole}"])],
        env=environment,
        check=True,
        capture_output=True,
    )
    assert same_state(whole, killed) == []


def test_a_kill_in_the_middle_of_a_checkpoint_leaves_the_one_before(long_overrides, tmp_path):
    folder = tmp_path / "run"
    kill_while_writing(long_overrides)
    (left,) = checkpoints_in(folder / "checkpoints")
    assert load_checkpoint(left)["step"] == 10
    assert [path.suffix for path in (folder / "checkpoints").glob(".*")] == [".partial"]
    resumed = subprocess.run(
        [*RUN, *arguments(long_overrides), "--resume", "auto"], capture_output=True, text=True
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "steps 11 to 20" in resumed.stderr
    assert not list((folder / "checkpoints").glob(".*"))


def test_a_killed_run_leaves_timing_files_that_can_be_read(long_overrides, tmp_path):
    from deblurkit.analysis.readers import read_log

    overrides = [*long_overrides, "LOG.TIMING_FILE_INTERVAL=1"]
    kill_while_writing(overrides)
    for path in (tmp_path / "run" / "logs").glob("timing_*"):
        assert read_log(path).num_steps == 20


def test_dropout_like_draws_continue_too(tiny_config, Watcher, monkeypatch):
    """A network that draws random numbers in training resumes into the same draws."""
    from deblurkit.models import unet

    original = unet.ClipUNet.forward

    def noisy(self, blurry, spikes=None):
        return original(self, blurry, spikes) + 0.01 * torch.randn(()) * self.frames_out.bias.sum()

    monkeypatch.setattr(unet.ClipUNet, "forward", noisy)
    more = ["TRAIN.SCHED.TYPE=constant", "LOG.SAVE_EVERY_STEPS=2"]
    whole = tiny_config(*more)
    run.train(whole, observer=Watcher())
    folder = whole.log.save_dir.parent / "parts"
    run.train(tiny_config(*more, f"LOG.SAVE_DIR={folder}", "TRAIN.MAX_STEPS=2"), observer=Watcher())
    torch.manual_seed(999)
    run.train(tiny_config(*more, f"LOG.SAVE_DIR={folder}"), observer=Watcher(), resume="auto")
    assert same_state(whole.log.save_dir, folder) == []


@pytest.mark.parametrize(
    "more",
    [
        ["TRAIN.EMA_DECAY=0.9"],
        ["TRAIN.AMP_ENABLED=true", "TRAIN.AMP_DTYPE=fp16"],
        ["TRAIN.OPTIM.TYPE=adamw8bit"],
        ["TRAIN.BATCH_SIZE=4", "DATALOADER.DROP_LAST=false"],
    ],
)
def test_what_else_a_run_keeps_goes_on_too(tiny_config, Watcher, more):
    """A running mean, the scale of float16, 8-bit moments, an epoch that ends in half a batch."""
    more = [*more, "TRAIN.SCHED.TYPE=constant", "TRAIN.MAX_STEPS=6"]
    whole = tiny_config(*more)
    run.train(whole, observer=Watcher())
    folder, watcher = whole.log.save_dir.parent / "parts", Watcher()
    run.train(tiny_config(*more, f"LOG.SAVE_DIR={folder}", "TRAIN.MAX_STEPS=3"), observer=Watcher())
    run.train(tiny_config(*more, f"LOG.SAVE_DIR={folder}"), observer=watcher, resume="auto")
    assert watcher.warnings == [] and same_state(whole.log.save_dir, folder) == []
    first, second = (
        load_checkpoint(checkpoints_in(place / "checkpoints")[-1]) for place in (whole.log.save_dir, folder)
    )
    assert equal(first.get("ema"), second.get("ema")) and equal(first["guard"], second["guard"])
    assert ("ema" in first) == ("TRAIN.EMA_DECAY=0.9" in more)
    assert bool(first["scaler"]) == ("TRAIN.AMP_DTYPE=fp16" in more)


@pytest.mark.parametrize("at", [2, 5])
def test_a_run_whose_clips_and_crops_grow_goes_on_in_the_middle_of_an_epoch(tiny_config, Watcher, at):
    """Three steps an epoch: clips of 1, 2 and 3 frames in the first three; crops of 16, then 32 px."""
    more = ["TRAIN.SCHED.TYPE=constant", "TRAIN.MAX_STEPS=8", "DATA.CLIP_LEN=3", "DATALOADER.TRAIN_WORKERS=1"]
    more += ["DATA.TRAIN_CLIP_LEN=[1,2]", "DATA.TRAIN_CLIP_EPOCHS=1"]
    more += ["DATA.TRAIN_CROP_SIZE=16", "DATA.TRAIN_CROP_EPOCHS=1"]
    whole = tiny_config(*more)
    run.train(whole, observer=Watcher())
    folder = whole.log.save_dir.parent / "parts"
    run.train(tiny_config(*more, f"LOG.SAVE_DIR={folder}", f"TRAIN.MAX_STEPS={at}"), observer=Watcher())
    watcher = Watcher()
    run.train(tiny_config(*more, f"LOG.SAVE_DIR={folder}"), observer=watcher, resume="auto")
    assert watcher.warnings == [] and same_state(whole.log.save_dir, folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_saves_the_run(long_overrides, tmp_path, number):
    """`timeout`, Slurm and Ctrl-C signal the workers too; the run must outlive them and save."""
    overrides = [*long_overrides, "TRAIN.MAX_STEPS=100000", "TRAIN.EPOCHS=100000", "LOG.SAVE_EVERY_STEPS=0"]
    process = subprocess.Popen(
        [*RUN, *arguments(overrides)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    log = tmp_path / "run" / "logs"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any(p.stat().st_size for p in log.glob("train_*.log")):
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + number, error
    assert "go on with --resume auto" in error.splitlines()[-1] and "Traceback" not in error
    assert len(checkpoints_in(tmp_path / "run" / "checkpoints")) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_prepare_data_leaves_nothing(tmp_path, number, code):
    command = [sys.executable, "-m", "deblurkit", "prepare-data", "synthetic", str(tmp_path / "big")]
    process = subprocess.Popen([*command, "--train-sequences", "500"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob(".big.*/train/*")):
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
