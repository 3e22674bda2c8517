import hashlib
import json
import os
import shutil
import subprocess

import pytest
import torch

from deblurkit.errors import DeblurkitError
from deblurkit.training.interrupt import InterruptedRun
from deblurkit.training.manifest import (
    ENVIRONMENT,
    Machine,
    code_identity,
    dataset_identity,
    read_manifest,
    recorded,
    run_manifest,
    write_manifest,
)

CPU = torch.device("cpu")
CONFIG = {"SEED": 7, "TRAIN": {"BATCH_SIZE": 2, "MAX_STEPS": 10}}


def record(root, **changed):
    arguments = {
        "dataset_root": root,
        "world_size": 2,
        "device": CPU,
        "protocol": {"name": "vrt"},
        "started_at": 0.0,
    }
    return run_manifest(changed.pop("config", CONFIG), **(arguments | changed))


def test_a_record_says_what_a_run_is_of(dataset_root):
    found = record(dataset_root)
    assert found["config"] == CONFIG and found["seed"] == 7 and found["protocol"] == {"name": "vrt"}
    assert found["versions"]["torch"] == torch.__version__
    assert found["hardware"]["hostname"] == os.uname().nodename
    assert 1 <= found["hardware"]["cpus"] <= os.cpu_count() and found["hardware"]["gpus"] == []
    (part,) = found["parts"]
    assert (part["status"], part["first_step"], part["world_size"]) == ("running", 1, 2)
    assert part["started_at"] == "1970-01-01T00:00:00+00:00"
    assert json.loads(json.dumps(found)) == found


def test_a_dataset_is_known_by_its_manifest_which_has_a_checksum_of_every_file(dataset_root):
    found = dataset_identity(dataset_root)
    sizes = [path.stat().st_size for path in dataset_root.rglob("*.*") if path.parent != dataset_root]
    assert (found["files"], found["bytes"]) == (len(sizes), sum(sizes))
    assert (
        found["manifest_sha256"] == hashlib.sha256((dataset_root / "manifest.json").read_bytes()).hexdigest()
    )


@pytest.mark.parametrize("content", [None, "{", "[]", '{"name": "x"}'])
def test_where_there_is_no_manifest_there_is_no_identity(tmp_path, content):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    assert dataset_identity(tmp_path) is None


def test_the_machine_s_own_files_are_read(tmp_path, dataset_root):
    """As a 4-core machine with a driver shows them, in a group of a CPU and a half and 1 GiB."""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nflags\t: x\n")
    (tmp_path / "driver").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
    )
    group = tmp_path / "cgroup" / "job"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("100000 100000\n")
    (group / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "membership").write_text("0::/job\n")
    machine = Machine(tmp_path / "cpuinfo", tmp_path / "driver", tmp_path / "cgroup", tmp_path / "membership")
    found = record(dataset_root, machine=machine)
    assert found["hardware"]["cpu"] == "Fast CPU @ 3 GHz"
    assert (found["hardware"]["cpus"], found["hardware"]["memory_bytes"]) == (1, 2**30)
    assert found["versions"]["nvidia_driver"] == "550.54.15"


def test_no_secret_of_the_environment_gets_in(dataset_root, monkeypatch):
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "SLURM_JWT", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "hush-hush")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setattr("sys.argv", ["deblurkit", "--token", "hush-hush"])
    found = record(dataset_root)
    assert "hush-hush" not in json.dumps(found)
    assert found["environment"]["SLURM_JOB_ID"] == "4711"
    assert found["environment"].keys() <= set(ENVIRONMENT)


@pytest.fixture
def working_copy(tmp_path):
    """A package in a git working copy whose remote has a password in its address."""
    if shutil.which("git") is None:
        pytest.skip("no git here")
    package = tmp_path / "copy" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git(package.parent, "init", "-q")
    git(package.parent, "remote", "add", "origin", "https://me:hush-hush@example.org/code.git")
    git(package.parent, "add", ".")
    git(package.parent, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "first")
    return package


def git(folder, *arguments):
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_code_is_known_by_its_commit_and_whether_it_differs(working_copy):
    commit = git(working_copy, "rev-parse", "HEAD")
    assert code_identity(working_copy) == {"commit": commit, "dirty": False}
    (working_copy.parent / "notes.txt").write_text("no code")
    assert code_identity(working_copy) == {"commit": commit, "dirty": False}
    (working_copy / "new.py").write_text("")
    assert code_identity(working_copy) == {"commit": commit, "dirty": True}


def test_an_installed_package_is_not_taken_for_the_repository_around_it(working_copy):
    installed = working_copy.parent / "venv" / "package"
    shutil.copytree(working_copy, installed)
    assert code_identity(installed) is None


def test_git_s_own_variables_do_not_lead_elsewhere(working_copy, tmp_path, monkeypatch):
    expected = code_identity(working_copy)
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert code_identity(working_copy) == expected != None  # noqa: E711


def test_without_git_nothing_is_known(working_copy, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert code_identity(working_copy) is None


def test_each_start_of_a_run_is_a_part_and_a_part_without_an_end_was_killed(dataset_root, tmp_path):
    path = tmp_path / "run.json"
    write_manifest(path, record(dataset_root))
    other = {"SEED": 7, "TRAIN": {"BATCH_SIZE": 3, "MAX_STEPS": 20}}
    second = record(
        dataset_root, earlier=read_manifest(path), first_step=5, world_size=1, config=other, started_at=60.0
    )
    assert [part["status"] for part in second["parts"]] == ["killed", "running"]
    assert [part["first_step"] for part in second["parts"]] == [1, 5]
    assert [part["world_size"] for part in second["parts"]] == [2, 1]
    assert second["parts"][1]["config_changes"] == [
        {"key": "TRAIN.BATCH_SIZE", "before": "2", "now": "3"}
    ]  # a run may be made longer without changing its numbers
    assert second["config"] == other


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (None, "finished", None),
        (InterruptedRun("stopped after step 3", 15), "interrupted", "stopped after step 3"),
        (DeblurkitError("no space\nat all"), "failed", "no space"),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt"),
    ],
)
def test_a_part_tells_how_it_has_ended(dataset_root, tmp_path, error, status, told):
    path, raised = tmp_path / "run.json", None
    try:
        with recorded(path, record(dataset_root), last_step=lambda: 3, now=lambda: 90.0):
            assert read_manifest(path)["parts"][0]["status"] == "running"
            if error is not None:
                raise error
    except BaseException as caught:
        raised = caught
    assert raised is error
    (part,) = read_manifest(path)["parts"]
    assert (part["status"], part["error"], part["last_step"]) == (status, told, 3)
    assert part["ended_at"] == "1970-01-01T00:01:30+00:00"


def test_what_is_added_on_the_way_is_written_at_once_and_stays(dataset_root, tmp_path):
    path = tmp_path / "run.json"
    with recorded(path, record(dataset_root), last_step=lambda: 3) as add:
        add({"pids": [{"main": 42, "workers": [51]}]})
        assert read_manifest(path)["parts"][0]["pids"] == [{"main": 42, "workers": [51]}]
        assert read_manifest(path)["parts"][0]["status"] == "running"
    (part,) = read_manifest(path)["parts"]
    assert (part["status"], part["pids"]) == ("finished", [{"main": 42, "workers": [51]}])


def test_a_full_disk_at_the_end_does_not_hide_what_went_wrong(dataset_root, tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(DeblurkitError, match="the real reason"),
        recorded(tmp_path / "run.json", record(dataset_root), last_step=lambda: 3),
    ):
        monkeypatch.setattr("deblurkit.training.manifest.write_text", full)
        raise DeblurkitError("the real reason")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"schema": "deblurkit-run/1"}', '{"schema": "x/1"}'])
def test_a_record_that_cannot_be_read_is_none(tmp_path, content):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    assert read_manifest(path) is None
