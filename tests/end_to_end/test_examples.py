"""The scripts of several processes in examples/, in small; Slurm's own commands have stand-ins here."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deblurkit.training.checkpoint import checkpoints_in, load_checkpoint

EXAMPLES = Path(__file__).parents[2] / "examples"
SBATCH = EXAMPLES / "slurm" / "train.sbatch"
NODE = EXAMPLES / "multi_node" / "run_node.sh"
STEPS = 120  # some seconds: a signal comes before the end
SMALL = {
    "DATA.CROP_SIZE": 32,
    "DATA.NUM_VOXEL_BINS": 4,
    "MODEL.BASE_CHANNELS": 4,
    "DATALOADER.TRAIN_WORKERS": 0,
    "DATALOADER.VAL_WORKERS": 0,
    "TRAIN.DEVICE": "cpu",
    "TRAIN.EPOCHS": 5000,
    "TRAIN.BATCH_SIZE": 1,
    "TRAIN.SCHED.WARMUP_STEPS": 0,
    "LOG.TENSORBOARD": "false",
    "TEST.NUM_WORKERS": 0,
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gloo is told the name of Linux's loopback")


def options(dataset_root, folder, **keys):
    chosen = {key.replace("__", "."): value for key, value in keys.items()}
    settings = SMALL | {"DATA.ROOT": dataset_root} | chosen
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return ["--preset", "quickstart", "--output", str(folder), *sets]


def environment(**more):
    """Return an environment without Slurm, in which the commands are those of this Python."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "MASTER_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"
    return inherited | {"PATH": path, "OMP_NUM_THREADS": "1"} | more


@pytest.fixture
def start():
    """Return a function that starts a script; what is left of it at the end of a test is asked to stop."""
    started = []

    def begin(*command, **more):
        process = subprocess.Popen(
            ["bash", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**more),
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGUSR1)
            process.communicate(timeout=60)


def wait_for(condition, process, *, seconds=100):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.05)


@pytest.fixture
def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


# A job script without Slurm


def test_the_job_script_saves_at_sigusr1_and_the_same_command_finishes_the_run(start, dataset_root, tmp_path):
    keys = {"TRAIN__MAX_STEPS": STEPS, "LOG__SAVE_EVERY_STEPS": 5}
    command = SBATCH, *options(dataset_root, tmp_path / "run", **keys)
    checkpoints = tmp_path / "run" / "checkpoints"
    first = start(*command)
    wait_for(lambda: checkpoints_in(checkpoints), first)
    first.send_signal(signal.SIGUSR1)
    out, said = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGUSR1, said
    assert said.count("stopped after step") == 1
    assert out.splitlines()[-1] == "saved; the same command goes on"
    saved = load_checkpoint(checkpoints_in(checkpoints)[-1])["step"]
    assert f"stopped after step {saved} of {STEPS}" in said

    second = start(*command)
    _, said = second.communicate(timeout=100)
    assert second.returncode == 0, said
    assert f"going on after step {saved} " in said
    parts = json.loads((tmp_path / "run" / "run.json").read_text())["parts"]
    assert [part["status"] for part in parts] == ["interrupted", "finished"]
    assert parts[-1]["last_step"] == STEPS and parts[-1]["world_size"] == 2


# A job script in Slurm, whose commands have stand-ins: what they pass on is what Slurm's manual says

SRUN = """#!/usr/bin/env bash
# Starts the tasks of two nodes, hands signals on, and ends with the highest exit code.
echo "$@" > "$SEEN/srun"
while [[ $1 == --* ]]; do shift; done
tasks=()
trap 'kill -USR1 "${tasks[@]}"' USR1
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_PROCID=$task SLURM_LOCALID=$((task % SLURM_NTASKS_PER_NODE)) "$@" &
    tasks+=($!)
done
code=0
for task in "${tasks[@]}"; do
    while true; do
        wait "$task"; ended=$?
        kill -0 "$task" 2>/dev/null || break
    done
    wait "$task"; ended=$?
    [ "$ended" -le "$code" ] || code=$ended
done
exit "$code"
"""
SCONTROL = """#!/usr/bin/env bash
case $1 in
    show) [ "$2 $3" = "hostnames gpu[07-08]" ] && printf 'gpu07\\ngpu08\\n' ;;
    requeue) echo "$2" > "$SEEN/requeued" ;;
esac
"""
DEBLURKIT = """#!/usr/bin/env bash
# Notes its place and ends with CODE, or is told to stop, takes a moment to save, and ends as deblurkit does.
trap 'sleep 0.3; echo saved > "$SEEN/saved$RANK"; exit 138' USR1
place="$RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR $MASTER_PORT $OMP_NUM_THREADS"
printf '%s\\n' "$place" "$@" > "$SEEN/.rank$RANK"
mv "$SEEN/.rank$RANK" "$SEEN/rank$RANK"
[ -z "$CODE" ] || exit "$CODE"
while true; do sleep 0.05; done
"""


@pytest.fixture
def job(start, tmp_path):
    """Return a function that starts the job script as job 31234 of four tasks on two nodes."""
    commands, seen = tmp_path / "bin", tmp_path / "seen"
    commands.mkdir()
    seen.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "deblurkit": DEBLURKIT}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "31234",
        "SLURM_JOB_NODELIST": "gpu[07-08]",
        "SLURM_NTASKS": "4",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_CPUS_PER_TASK": "6",
        "SEEN": str(seen),
        "OMP_NUM_THREADS": "",
    }

    def begin(*arguments, code=""):
        path = f"{commands}{os.pathsep}{os.environ['PATH']}"
        return start(SBATCH, *arguments, **slurm, PATH=path, CODE=code)

    return begin, seen


def test_each_task_of_a_job_has_its_place_and_the_words_of_the_arguments(job):
    begin, seen = job
    done = begin("--preset", "baseline", "--set", "LOG.SAVE_DIR=a b", code="0")
    assert done.communicate(timeout=20) and done.returncode == 0
    arguments = ["train", "--preset", "baseline", "--set", "LOG.SAVE_DIR=a b", "--resume", "auto"]
    for rank, local in enumerate([0, 1, 0, 1]):
        place, *given = (seen / f"rank{rank}").read_text().splitlines()
        assert place == f"{rank} {local} 4 2 gpu07 16234 6"  # 15000 + 31234 % 15000
        assert given == arguments
    assert "--cpus-per-task=6" in (seen / "srun").read_text()
    assert not (seen / "requeued").exists()


def test_a_signal_before_the_end_of_the_time_reaches_all_tasks_and_queues_the_job_again(job):
    """What Slurm's srun does at SIGTERM is to kill its tasks: that one is not handed on."""
    begin, seen = job
    process = begin("--preset", "baseline")
    wait_for(lambda: len(list(seen.glob("rank*"))) == 4, process, seconds=20)
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)
    process.send_signal(signal.SIGUSR1)
    out, said = process.communicate(timeout=20)
    assert process.returncode == 138, said
    assert len(list(seen.glob("saved*"))) == 4  # the script has waited for them
    assert (seen / "requeued").read_text() == "31234\n"
    assert "queueing job 31234 again" in out


@pytest.mark.parametrize("code", ["1", "143"])
def test_a_job_that_fails_or_is_cancelled_is_not_queued_again(job, code):
    begin, seen = job
    process = begin("--preset", "baseline", code=code)
    process.communicate(timeout=20)
    assert process.returncode == int(code)
    assert not (seen / "requeued").exists()


# Several nodes: two on this machine


def test_two_nodes_train_together(start, dataset_root, tmp_path, free_port):
    own = options(dataset_root, tmp_path / "run", TRAIN__MAX_STEPS=4)
    nodes = [start(NODE, rank, *own, PORT=str(free_port)) for rank in range(2)]
    said = [node.communicate(timeout=100) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert [path.name for path in checkpoints_in(tmp_path / "run" / "checkpoints")] == ["step_00000004.pt"]
    (part,) = json.loads((tmp_path / "run" / "run.json").read_text())["parts"]
    assert part["status"] == "finished" and part["world_size"] == 2
    assert [len(re.findall("held-out PSNR", out)) for out, _ in said] == [1, 0]  # rank 0 is on node 0


def test_a_rank_that_fails_ends_all_nodes_and_says_why(start, dataset_root, tmp_path, free_port):
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    own = options(dataset_root, tmp_path / "run"), options(nothing, tmp_path / "run")
    nodes = [start(NODE, rank, *own[rank], PORT=str(free_port)) for rank in range(2)]
    said = [node.communicate(timeout=100)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [1, 1], said
    complaints = [[line for line in text.splitlines() if "deblurkit: error" in line] for text in said]
    assert len(complaints[1]) == 1 and str(nothing) in complaints[1][0]
    assert len(complaints[0]) == 1 and "another rank has ended" in complaints[0][0]
    # torchrun has its own report; the reason is in front of it
    assert said[1].index("deblurkit: error") < said[1].index("ChildFailedError")


def test_a_node_without_its_number_is_told_so(start):
    node = start(NODE)
    assert "usage:" in node.communicate(timeout=20)[1]
    assert node.returncode == 2
