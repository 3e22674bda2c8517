import os

import pytest

from deblurkit.cache.folder import folder_of, join_folder, remove_remains
from deblurkit.memory.remains import remains

SEGMENTS = """key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap
  0     7  1600 104857600 1234 1234 2 1000 1000 1000 1000 0 0 0  4096 0
  0     8  1600 104857600 1234 1234 0 1001 1000 1000 1000 0 0 0 53248 0"""


@pytest.fixture
def found(machine_of):
    """Return a function that gives the remains of a machine by their names."""

    def look(files=None, **options):
        machine = machine_of(files)
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


def test_this_machine_can_be_looked_at():
    assert all(each.state in ("held", "dead", "unknown") for each in remains())
