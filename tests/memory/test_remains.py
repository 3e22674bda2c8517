import os
import subprocess
import tempfile

import pytest

from deblurkit.cache.folder import folder_of, join_folder, remove_remains
from deblurkit.memory.look import removal_of
from deblurkit.memory.remains import CACHE, remains

SEGMENTS = """key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap
  0     7  1600 104857600 1234 1234 2 1000 1000 1000 1000 0 0 0  4096 0
  0     8  1600 104857600 1234 1234 0 1001 1000 1000 1000 0 0 0 53248 0"""
WHOLE = {"proc/2/comm": "kthreadd"}  # the outermost namespace, of which nothing is hidden
CONTAINER = {"proc/2/comm": "bash"}
HIDDEN = {"proc/self/mounts": "proc /proc proc rw,relatime,hidepid=invisible 0 0"}  # /proc/2 as well


@pytest.fixture
def found(machine_of):
    """Return a function that gives the remains of a machine of which all is seen by their names."""

    def look(files=None, seen=WHOLE, **options):
        machine = machine_of({**seen, **(files or {})})
        options.setdefault("roots", [machine.shm])
        return {
            each.path.name if each.path else each.what: each
            for each in remains(machine, user_name=lambda uid: f"user {uid}", **options)
        }

    return look


def prepare(run):
    (run / "samples").write_bytes(b"\1" * 8192)


def test_a_cache_is_held_as_long_as_its_run_lives(found, machine_of):
    folder = folder_of(machine_of().shm, "data")
    membership, _ = join_folder(folder, prepare)
    held = found()[folder.name]
    assert (held.state, held.bytes, held.user) == ("held", 8192, f"user {os.getuid()}")
    assert found()[folder.name].state == "held"  # looking has not let go of it
    membership._descriptor = os.close(membership._descriptor)  # as the kernel does when a process is killed
    dead = found()[folder.name]
    assert (dead.state, dead.bytes) == ("dead", 8192)
    assert folder.exists()
    assert remove_remains(folder.parent) == [folder]
    assert found() == {}


def test_a_cache_in_the_making_is_neither_dead_nor_touched(found, machine_of):
    folder = folder_of(machine_of().shm, "data")
    folder.mkdir(mode=0o700)
    assert found()[folder.name].state == "unknown"
    assert list(folder.iterdir()) == []


def test_the_cache_of_another_user_cannot_be_asked(found, machine_of, monkeypatch):
    folder = folder_of(machine_of().shm, "data")
    membership, _ = join_folder(folder, prepare)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    other = found()[folder.name]
    monkeypatch.undo()
    membership.leave()
    assert (other.state, other.why) == ("unknown", "another user's: only they can see into it")


def test_caches_outside_shared_memory_are_found(found, tmp_path):
    root = tmp_path / "tmp"
    root.mkdir()
    membership, _ = join_folder(folder_of(root, "data"), prepare)
    names = set(found(roots=[root]))
    membership.leave()
    assert names == {folder_of(root, "data").name}


def test_shared_tensors_of_a_dead_process_are_dead(found):
    files = {"shm/torch_123_0_0": "x" * 5000, "shm/torch_456_0_0": "x", "proc/456/maps": ""}
    states = {name: (each.state, each.what) for name, each in found(files).items()}
    what = "tensor shared by PyTorch"
    assert states == {"torch_123_0_0": ("dead", what), "torch_456_0_0": ("held", what)}
    assert found()["torch_123_0_0"].bytes == 8192  # whole pages
    assert list(found())[0] == "torch_123_0_0"


@pytest.mark.parametrize("seen", [CONTAINER, HIDDEN])
def test_where_processes_are_not_seen_none_is_dead_for_not_being_here(found, seen):
    """With --ipc=host the tensors of all containers lie there, their processes being elsewhere."""
    files = {"shm/torch_123_0_0": "x", "shm/torch_456_0_0": "x", "proc/456/maps": ""}
    states = {name: each.state for name, each in found(files, seen).items()}
    assert states == {"torch_123_0_0": "unknown", "torch_456_0_0": "held"}
    remain = found(files, seen)["torch_123_0_0"]
    assert remain.user == f"user {os.getuid()}"  # our own it is, and of another container perhaps
    assert removal_of(remain) is None


def test_the_command_for_a_dead_cache_leaves_one_alone_that_a_run_has_taken_since(found, machine_of):
    folder = folder_of(machine_of().shm, "data")
    first, _ = join_folder(folder, prepare)
    first._descriptor = os.close(first._descriptor)  # as the kernel does when a process is killed
    dead = found()[folder.name]
    command = removal_of(dead)
    assert (dead.what, dead.state) == (CACHE, "dead")
    second, run = join_folder(folder, prepare)
    assert subprocess.check_output(command, shell=True, text=True) == ""
    assert (run / "samples").exists()
    second._descriptor = os.close(second._descriptor)
    assert subprocess.check_output(command, shell=True, text=True) == f"removed {folder}\n"
    assert not folder.exists()


def test_what_a_process_has_mapped_or_open_is_held(found, tmp_path):
    shm = tmp_path / "shm"
    files = {
        "shm/nccl-AbCdEf": "x",
        "shm/psm_0a1b": "x",
        "shm/joblib_9/array.pkl": "x",
        "shm/left": "x",
        "proc/77/maps": f"7f00-7f01 rw-s 00000000 00:1a 5    {shm}/nccl-AbCdEf\n"
        f"7f02-7f03 rw-s 00000000 00:1a 6    {shm}/joblib_9/array.pkl\n7f04-7f05 rw-p 00000000 0 0 [heap]",
    }
    (tmp_path / "proc/77/fd").mkdir(parents=True)
    (tmp_path / "proc/77/fd/3").symlink_to(shm / "psm_0a1b")
    (tmp_path / "proc/77/fd/4").symlink_to("socket:[1]")
    states = {name: each.state for name, each in found(files).items()}
    assert states == {"nccl-AbCdEf": "held", "psm_0a1b": "held", "joblib_9": "held", "left": "unknown"}
    assert found()["nccl-AbCdEf"].what == "buffer of NCCL"


def test_segments_that_nobody_is_attached_to_are_dead(found):
    segments = found({"proc/sysvipc/shm": SEGMENTS})
    held, dead = segments["System V segment 7"], segments["System V segment 8"]
    assert (held.state, held.bytes, held.user) == ("held", 4096, "user 1000")
    assert (dead.state, dead.bytes, dead.user) == ("dead", 53248, "user 1001")
    assert "ipcrm -m 8" in dead.why


def test_without_shared_memory_there_are_no_remains(machine_of, tmp_path):
    machine = machine_of()
    machine.shm.rmdir()
    assert remains(machine, roots=[tmp_path / "none"]) == []


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no shared memory here")
def test_on_this_machine_a_file_that_is_open_is_held():
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        (own,) = [each for each in remains() if str(each.path) == file.name]
        assert own.state == "held"
