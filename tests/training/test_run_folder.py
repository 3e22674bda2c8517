import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import deblurkit
from deblurkit.errors import DeblurkitError
from deblurkit.training import run_folder
from deblurkit.training.run_folder import LOCK, held, write_config

HOLD = """
import os, sys, time
from pathlib import Path
from deblurkit.training.run_folder import held
with held(Path(sys.argv[1])):
    if sys.argv[2] == "with a worker" and os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder, way="alone"):
    """Return another process, in a group of its own, that holds a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), way],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(deblurkit.__file__).parents[1])},
    )
    assert process.stdout.readline() == "held\n"
    return process


def end(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_folder_that_another_process_trains_in_is_refused_and_free_once_that_is_killed(tmp_path):
    other = holder(tmp_path)
    try:
        with pytest.raises(DeblurkitError) as caught, held(tmp_path, patience=0):
            pytest.fail("held by two")
        assert str(caught.value).startswith(f"{tmp_path}: process {other.pid} on ")
        assert "\n" not in str(caught.value) and "--output DIR" in str(caught.value)
    finally:
        end(other)
    with held(tmp_path, patience=0):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_a_loader_worker_that_outlives_its_run_holds_nothing(tmp_path):
    other = holder(tmp_path, "with a worker")
    try:
        other.kill()
        other.wait()
        assert subprocess.run(["pgrep", "-g", str(other.pid)], capture_output=True).stdout
        with held(tmp_path, patience=0):
            pass
    finally:
        end(other)


def test_one_that_is_about_to_end_is_waited_for(tmp_path, monkeypatch):
    other = holder(tmp_path)
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        end(other)

    monkeypatch.setattr(time, "sleep", sleep)
    with held(tmp_path):
        pass
    assert len(slept) == 1


def test_nothing_is_left_of_the_lock_and_of_a_folder_that_was_made_for_it_alone(tmp_path):
    with held(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []
    new = tmp_path / "new"
    with pytest.raises(KeyError), held(new):
        raise KeyError
    assert not new.exists()
    with held(new):
        (new / "config.yaml").touch()
    assert [path.name for path in new.iterdir()] == ["config.yaml"]


def test_a_name_that_was_taken_away_meanwhile_is_locked_anew(tmp_path, monkeypatch):
    """Who held it before has unlinked it after it was opened here; a third one could lock the new file."""
    really, opened = run_folder._lock, []

    def lock(descriptor):
        opened.append(descriptor)
        if len(opened) == 1:
            (tmp_path / LOCK).unlink()
        return really(descriptor)

    monkeypatch.setattr(run_folder, "_lock", lock)
    with held(tmp_path):
        assert len(opened) == 2 and (tmp_path / LOCK).exists()


def test_where_files_cannot_be_locked_a_run_goes_on_without(tmp_path, monkeypatch):
    def no_locks(descriptor, kind):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(run_folder.fcntl, "lockf", no_locks)
    with held(tmp_path, patience=0):
        pass


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DeblurkitError, match="file is a file, a folder expected"), held(tmp_path / "file"):
        pass


def configs(folder):
    return {path.name: yaml.safe_load(path.read_text())["SEED"] for path in sorted(folder.glob("*.yaml"))}


def test_the_configuration_of_every_part_stays_beside_the_newest(tiny_config, tmp_path):
    for seed, steps in ((1, 0), (2, 0), (2, 4), (3, 4), (4, 4), (5, 8)):
        write_config(tmp_path, tiny_config(f"SEED={seed}"), done_steps=steps)
    # 3 has saved no step: the weights until step 4 are those of 2.
    assert configs(tmp_path) == {
        "config.yaml": 5,
        "config_until_step_00000004.yaml": 2,
        "config_until_step_00000008.yaml": 4,
    }


def test_a_kill_in_the_middle_leaves_a_configuration(tiny_config, tmp_path, monkeypatch):
    write_config(tmp_path, tiny_config("SEED=1"), done_steps=0)

    class Killed(BaseException):
        pass

    def kill(path, text):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run_folder, "write_text", kill)
        write_config(tmp_path, tiny_config("SEED=2"), done_steps=4)
    assert configs(tmp_path)["config.yaml"] == 1
    write_config(tmp_path, tiny_config("SEED=2"), done_steps=4)
    assert configs(tmp_path) == {"config.yaml": 2, "config_until_step_00000004.yaml": 1}
