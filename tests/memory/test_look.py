import os
from dataclasses import replace
from pathlib import Path

import pytest

from deblurkit.memory.gpu import GpuLook, RecordedGpus
from deblurkit.memory.limits import Resource
from deblurkit.memory.look import Sources, glance, is_seen, look, name_of, printable, program_of, removal_of
from deblurkit.memory.processes import Process
from deblurkit.memory.remains import Remain

GIB = 2**30
SPAWN = "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)"  # 3.11's own
TRACKER = "from multiprocessing.resource_tracker import main;main(5)"
MEMINFO = f"MemTotal: {64 * 2**20} kB\nMemFree: {10 * 2**20} kB\nMemAvailable: {20 * 2**20} kB"


def process(pid, *, user="alice", uid=1000, rss=GIB, pss=None, command=("python", "train.py"), parent=1):
    return Process(pid, parent, uid, user, "python", command, 0.0, rss, pss_bytes=pss, uss_bytes=pss)


@pytest.fixture
def sources_of(machine_of, made_sources):
    def make(*processes, files=None, **options):
        found = {"proc/meminfo": MEMINFO, "proc/2/comm": "kthreadd", **(files or {})}
        options.setdefault("gpus", RecordedGpus([GpuLook((), ("no driver",))]))
        return made_sources(
            machine_of(found),
            *processes,
            remains=lambda: [Remain(Path("/dev/shm/x"), "file", "bob", 1, "held", "open")],
            clock=lambda: 1.7e9,
            uid=lambda: 1000,
            user=lambda: "alice",
            **options,
        )

    return make


def test_a_look_has_all_that_the_sources_tell(sources_of):
    ours = process(5, command=("deblurkit", "train"), pss=GIB)
    seen = look(sources_of(ours, process(6, user="王小明", uid=1001, rss=9 * GIB)))
    assert (seen.at, seen.hostname, seen.user) == (1.7e9, "gpu01", "alice")
    assert next(limit for limit in seen.limits if limit.kind == "ram").available_bytes == 20 * GIB
    assert [user.user for user in seen.holders.users] == ["王小明", "alice"]
    assert [tree.root.pid for tree in seen.trees] == [5]
    assert [remain.user for remain in seen.remains] == ["bob"]
    assert "no driver" in seen.unseen
    assert "PSS and USS of other users' processes: root sees them" in seen.unseen
    assert not any("container" in line for line in seen.unseen)


def test_root_is_not_told_that_root_sees_more(sources_of):
    sources = replace(sources_of(process(6, user="王小明", uid=1001)), uid=lambda: 0)
    told = [line for line in look(sources).unseen if line.startswith("PSS and USS")]
    assert len(told) == 1 and "root" not in told[0] and "6 (python)" in told[0]


def test_a_glance_leaves_shared_memory_alone(sources_of):
    assert glance(sources_of()).remains == ()


def test_without_a_user_s_runs_there_are_none_and_a_process_has_its_tree(sources_of):
    sources = sources_of(process(7, command=("bash",)), process(8, parent=7))
    assert look(sources).trees == ()
    (tree,) = look(sources, pid=7).trees
    assert tree.total.rss_bytes == 2 * GIB
    assert is_seen(sources, 7) and not is_seen(sources, 9)


def test_what_may_not_be_seen_is_said(sources_of):
    hidden = process(9, rss=None, user="root", uid=0)
    seen = glance(sources_of(hidden, files={"proc/2/comm": "bash", "proc/self/cgroup": "0::/gone"}))
    assert any("this is a container" in line for line in seen.unseen)
    assert any("control groups are not seen" in line for line in seen.unseen)
    assert "1 process whose memory is not told" in seen.unseen
    assert not any("ulimit" in line for line in seen.unseen)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/sys/fs/cgroup/user.slice/job/memory.max", "cgroup memory.max of /user.slice/job"),
        ("/sys/fs/cgroup/memory/docker/abc/memory.max", "cgroup memory.max of /docker/abc"),
        ("/sys/fs/cgroup/memory.max", "cgroup memory.max of /"),
    ],
)
def test_limits_of_several_groups_have_names_of_their_own(source, name):
    assert name_of(Resource("cgroup", "cgroup memory.max", 1, 1, 0, Path(source), "")) == name


def test_other_limits_keep_their_names():
    assert name_of(Resource("ram", "RAM", 1, 1, 0, Path("/proc/meminfo"), "")) == "RAM"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("/venv/bin/python3", "-m", "deblurkit", "train", "--preset", "x"), "deblurkit train --preset x"),
        (("/venv/bin/python", "/venv/bin/deblurkit", "train"), "deblurkit train"),
        (("/venv/bin/python", "-u", "-m", "deblurkit", "train", "--gpus", "2"), "deblurkit train --gpus 2"),
        (
            ("deblurkit", "train", "--preset", "x", "--set", "SEED=1", "--output", "runs/first"),
            "deblurkit train --preset x --output first",
        ),
        (("/usr/bin/java", "-Xmx8g"), "java -Xmx8g"),
        (("训练 中\x1b[2J\nx",), "训练 中 [2J x"),
        ((), "python"),
        (
            ("/venv/bin/python", "-B", "-c", SPAWN, "--multiprocessing-fork"),
            "multiprocessing child of process 1",
        ),
        (("python", "-c", TRACKER), "multiprocessing resource tracker of process 1"),
        (
            ("python", "-c", "print('from multiprocessing.spawn import x')"),
            "-c print('from multiprocessing.spawn import x')",
        ),
    ],
)
def test_a_program_is_named_as_a_person_knows_it(command, name):
    assert program_of(process(1, command=command)) == name


def test_names_cannot_steer_the_terminal():
    assert printable("a\x1b[31m\u202e\udcff王") == "a [31m  王"


@pytest.mark.parametrize(
    ("path", "what", "state", "user", "command"),
    [
        ("/dev/shm/torch_1_x", "tensor", "dead", "alice", "rm -r -- /dev/shm/torch_1_x"),
        ("/dev/shm/a b", "file", "dead", "alice", "rm -r -- '/dev/shm/a b'"),
        ("/dev/shm/a\nb", "file", "dead", "alice", None),
        ("/dev/shm/torch_1_x", "tensor", "dead", "bob", "sudo rm -r -- /dev/shm/torch_1_x"),
        ("/dev/shm/torch_1_x", "tensor", "held", "alice", None),
        ("/dev/shm/x", "file", "unknown", "alice", None),
        (None, "System V segment 42", "dead", "alice", "ipcrm -m 42"),
    ],
)
def test_only_what_is_dead_is_to_be_removed(path, what, state, user, command):
    remain = Remain(None if path is None else Path(path), what, user, 1, state, "")
    assert removal_of(remain, user="alice") == command


def test_the_system_tells_of_itself():
    seen = look(Sources())
    assert any(limit.kind == "ram" for limit in seen.limits)
    assert seen.holders.largest and seen.at > 1.7e9
    assert os.getpid() not in {tree.root.pid for tree in seen.trees}
