"""`deblurkit train --gpus 2` on CPU processes: the same run as one process; stopped, killed, resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from deblurkit.analysis.readers import logs_of_run, read_all
from deblurkit.analysis.runs import merged
from deblurkit.data.synthetic import make_synthetic
from deblurkit.training.checkpoint import checkpoint_path, checkpoints_in, load_checkpoint
from deblurkit.training.distributed import STORE
from deblurkit.training.evaluate import evaluate_checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gloo is told the name of Linux's loopback")

STEPS = 4
SHARED = {"TRAIN__PARALLEL": "fsdp"}
SMALL = {
    "DATA.CROP_SIZE": 32,
    "DATA.NUM_VOXEL_BINS": 4,
    "MODEL.BASE_CHANNELS": 4,
    "DATALOADER.TRAIN_WORKERS": 0,
    "DATALOADER.VAL_WORKERS": 0,
    "TRAIN.DEVICE": "cpu",
    "TRAIN.EPOCHS": 9,
    "TRAIN.MAX_STEPS": STEPS,
    "TRAIN.SCHED.TYPE": "constant",
    "TRAIN.SCHED.WARMUP_STEPS": 0,
    "TRAIN.BATCH_SIZE": 1,
    "TRAIN.GRADIENT_ACCUMULATION_STEPS": 2,
    "LOG.TENSORBOARD": "false",
    "LOG.TIMING_CONSOLE_INTERVAL": 2,
    "TEST.NUM_WORKERS": 0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight clips to train on, so that batches of one, two and four cut an epoch in the same places."""
    root = tmp_path_factory.mktemp("data") / "synthetic"
    make_synthetic(root, seed=1, num_train=2, num_test=3, frames_per_sequence=6, size=(48, 64))
    return root


def command(data, folder, *options, ranks=2, **keys):
    chosen = SMALL | {"DATA.ROOT": data} | {key.replace("__", "."): value for key, value in keys.items()}
    settings = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
    several = ["--gpus", str(ranks)] if ranks > 1 else []
    own = ["--preset", "quickstart", "--output", str(folder), *several, *settings, *options]
    return [sys.executable, "-m", "deblurkit", "train", *own]


def train(*arguments, **named):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(*arguments, **named), capture_output=True, text=True, timeout=180, env=environment
    )


def weights(folder, step=STEPS):
    return load_checkpoint(checkpoint_path(folder / "checkpoints", step))["model"]


def optimizer_states(folder):
    states = load_checkpoint(checkpoint_path(folder / "checkpoints", STEPS))["optimizer"]["state"]
    return {
        f"{number}.{key}": value.tolist()
        for number, values in states.items()
        for key, value in values.items()
    }


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run of two ranks in one piece."""
    folder = tmp_path_factory.mktemp("ranks") / "whole"
    done = train(data, folder, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((folder / "summary.json").read_text())  # once, not twice
    return folder


@pytest.fixture(scope="module")
def shared(data, tmp_path_factory):
    """The same run of two ranks that each keep a part of the network, validated on its way."""
    folder = tmp_path_factory.mktemp("ranks") / "shared"
    done = train(data, folder, LOG__VAL_EVERY_STEPS=2, LOG__TIMING_MODULE_DEPTH=1, **SHARED)
    assert done.returncode == 0, done.stderr
    return folder


def test_two_ranks_with_two_micro_steps_equal_one_with_a_batch_of_four(data, whole, tmp_path):
    """One process whose batch holds the clips of both ranks and both micro-steps."""
    alone = tmp_path / "alone"
    keys = {"TRAIN__BATCH_SIZE": 4, "TRAIN__GRADIENT_ACCUMULATION_STEPS": 1}
    done = train(data, alone, ranks=1, **keys)
    assert done.returncode == 0, done.stderr
    expected = weights(alone)
    for name, value in weights(whole).items():
        assert torch.allclose(value, expected[name], rtol=1e-3, atol=2e-6), name
    assert json.loads((whole / "run.json").read_text())["parts"][0]["world_size"] == 2


def test_a_validation_that_ranks_share_is_that_of_one_process_exactly(whole):
    """Another command, in this process."""
    (alone,) = evaluate_checkpoint(whole, device="cpu", warn=pytest.fail).results.values()
    shared = json.loads((whole / "summary.json").read_text())["validation"]
    assert {"protocol": alone.protocol, **alone.score.as_dict()} == shared


def test_an_evaluation_that_ranks_share_is_that_of_one_process_and_is_said_once(whole, tmp_path):
    arguments = ["evaluate", str(whole), "--device", "cpu", "--json", "--picture"]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "deblurkit", *arguments, str(tmp_path / f"{rank}.png")],
            env=os.environ
            | {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
            | {"OMP_NUM_THREADS": "1", STORE: str(tmp_path / "store"), "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    first, second = (process.communicate(timeout=180)[0] for process in started)
    assert [process.returncode for process in started] == [0, 0]
    assert second == "" and sorted(path.name for path in tmp_path.glob("*.png")) == ["0.png"]
    together = json.loads(first)["restored"]
    (alone,) = evaluate_checkpoint(whole, device="cpu", warn=pytest.fail).results.values()
    assert {key: together[key] for key in alone.as_dict()} == alone.as_dict()
    assert together["sequences"] == {name: score.as_dict() for name, score in alone.sequences.items()}


def test_every_rank_writes_its_times_and_one_the_text(whole):
    logs = merged(read_all(logs_of_run(whole)))
    assert sorted(log.rank for log in logs) == [0, 1]
    assert [log.num_steps for log in logs] == [STEPS, STEPS]
    assert all("backward/all_reduce" in log.times for log in logs)
    assert len(list((whole / "logs").glob("timing_*.log"))) == 1
    assert len(list((whole / "logs").glob("train_*.log"))) == 1


def test_a_run_in_two_parts_goes_on_exactly_on_both_ranks(data, whole, tmp_path):
    parted = tmp_path / "parted"
    assert train(data, parted, TRAIN__MAX_STEPS=2).returncode == 0
    assert not equal(weights(parted, 2), weights(whole))
    done = train(data, parted, "--resume", "auto")
    assert done.returncode == 0, done.stderr
    assert equal(weights(parted), weights(whole))
    assert "exactly" not in done.stderr  # no warning that something is otherwise


def test_one_process_goes_on_with_a_warning_where_two_left_off(data, whole, tmp_path):
    parted = tmp_path / "parted"
    assert train(data, parted, TRAIN__MAX_STEPS=2).returncode == 0
    keys = {"TRAIN__GRADIENT_ACCUMULATION_STEPS": 4}
    done = train(data, parted, "--resume", "auto", ranks=1, **keys)
    assert done.returncode == 0, done.stderr
    assert "2 processes trained together, and 1 do now" in done.stderr
    expected = weights(whole)
    for name, value in weights(parted).items():
        assert torch.allclose(value, expected[name], rtol=1e-3, atol=2e-6), name


def test_ranks_that_share_the_network_train_as_those_with_copies(whole, shared):
    """A file of theirs is evaluated, in this process, to the very scores that they had together."""
    expected = weights(whole)
    for name, value in weights(shared).items():
        assert torch.allclose(value, expected[name], rtol=1e-3, atol=2e-6), name
    (alone,) = evaluate_checkpoint(shared, device="cpu", warn=pytest.fail).results.values()
    summary = json.loads((shared / "summary.json").read_text())
    assert {"protocol": alone.protocol, **alone.score.as_dict()} == summary["validation"]
    checks = json.loads((shared / "verification.json").read_text())["checks"]
    assert ("checkpoint_reload", "pass") in [(check["id"], check["verdict"]) for check in checks]
    assert [log.num_steps for log in merged(read_all(logs_of_run(shared)))] == [STEPS, STEPS]


def test_a_shared_run_goes_on_exactly_and_alone_and_so_does_one_of_copies(data, whole, shared, tmp_path):
    parted, alone, taken_over = (tmp_path / name for name in ("parted", "alone", "taken_over"))
    begun = train(data, parted, TRAIN__MAX_STEPS=2, **SHARED)
    assert begun.returncode == 0 and "rank 0 keeps 5566" in begun.stderr, begun.stderr  # of 11132
    shutil.copytree(parted, alone)
    done = train(data, parted, "--resume", "auto", **SHARED)
    assert done.returncode == 0 and "exactly" not in done.stderr, done.stderr
    assert equal(weights(parted), weights(shared))
    assert optimizer_states(parted) == optimizer_states(shared)
    done = train(data, alone, "--resume", "auto", ranks=1, TRAIN__GRADIENT_ACCUMULATION_STEPS=4)
    assert done.returncode == 0 and "TRAIN.PARALLEL was fsdp in the checkpoint" in done.stderr, done.stderr
    assert train(data, taken_over, TRAIN__MAX_STEPS=2).returncode == 0
    done = train(data, taken_over, "--resume", "auto", **SHARED)
    assert done.returncode == 0, done.stderr
    expected = weights(whole)
    for name in expected:
        assert torch.allclose(weights(alone)[name], expected[name], rtol=1e-3, atol=2e-6), name
        assert torch.allclose(weights(taken_over)[name], expected[name], rtol=1e-3, atol=2e-6), name


@pytest.fixture
def long_run(data, tmp_path):
    """A run of two ranks that would take minutes, on its way, and its folder."""
    folder = tmp_path / "long"
    keys = {"TRAIN__MAX_STEPS": 5000, "TRAIN__EPOCHS": 5000, "LOG__SAVE_EVERY_STEPS": 5}
    process = subprocess.Popen(
        command(data, folder, **keys), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 100
    while not checkpoints_in(folder / "checkpoints"):
        assert process.poll() is None and time.monotonic() < until, process.communicate()[1]
        time.sleep(0.05)
    yield process, folder
    process.kill()


def ranks_of(process):
    """Return the pids of the training processes."""
    children = subprocess.run(
        ["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True, check=True
    )
    return [int(pid) for pid in children.stdout.split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_has_both_ranks_stop_at_the_same_step_and_save_it(long_run, number):
    process, folder = long_run
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert said.count("stopped after step") == 1 and "--resume auto" in said
    state = load_checkpoint(checkpoints_in(folder / "checkpoints")[-1])
    assert f"stopped after step {state['step']} " in said
    assert len(state["random"]) == 2
    assert json.loads((folder / "run.json").read_text())["parts"][-1]["status"] == "interrupted"


def test_a_rank_that_is_killed_ends_the_other_and_is_named(long_run):
    process, folder = long_run
    _, last = sorted(ranks_of(process))
    os.kill(last, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    complaints = [line for line in said.splitlines() if "error" in line]
    assert len(complaints) == 1 and "was killed by SIGKILL" in complaints[0], said
    assert "Traceback" not in said
    assert load_checkpoint(checkpoints_in(folder / "checkpoints")[-1])["step"] >= 5


def test_what_is_wrong_on_all_ranks_is_said_once(data, tmp_path):
    (tmp_path / "nothing").mkdir()
    done = train(data, tmp_path / "run", DATA__ROOT=tmp_path / "nothing")
    assert done.returncode == 1
    complaints = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(complaints) == 1 and str(tmp_path / "nothing") in complaints[0]
    assert "rank 0:" not in complaints[0]


def test_ranks_outlive_a_killed_launcher_only_to_save(long_run, data):
    """Nobody else trains in the folder meanwhile; then the run goes on where they have left off."""
    process, folder = long_run
    ranks = ranks_of(process)
    other = train(data, folder, "--resume", "auto", ranks=1, TRAIN__MAX_STEPS=5000, TRAIN__EPOCHS=5000)
    (line,) = [line for line in other.stderr.splitlines() if line.startswith("deblurkit: error:")]
    assert other.returncode == 1 and f"{folder}: process {min(ranks)} on " in line
    process.kill()
    process.communicate()
    until = time.monotonic() + 100
    while any(is_running(pid) for pid in ranks):
        assert time.monotonic() < until, "a rank trains on"
        time.sleep(0.05)
    (part,) = json.loads((folder / "run.json").read_text())["parts"]
    assert part["status"] == "interrupted"
    assert load_checkpoint(checkpoints_in(folder / "checkpoints")[-1])["step"] == part["last_step"]
    assert not (folder / ".lock").exists()


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_node_with_settings_of_its_own_is_refused_by_all(data, tmp_path):
    """As by torchrun on two nodes; each rank says the same."""
    started = [
        subprocess.Popen(
            command(data, tmp_path / "run", ranks=1, TRAIN__OPTIM__LR=rate),
            env=os.environ
            | {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
            | {"OMP_NUM_THREADS": "1", STORE: str(tmp_path / "store"), "GLOO_SOCKET_IFNAME": "lo"},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank, rate in enumerate((0.001, 0.002))
    ]
    for process in started:
        _, said = process.communicate(timeout=180)
        assert process.returncode == 1
        assert said == (
            "deblurkit: error: ranks were started with other settings: TRAIN.OPTIM.LR is 0.001 on rank 0 and"
            " 0.002 on rank 1; give every node the same options\n"
        )
    assert not (tmp_path / "run").exists()
