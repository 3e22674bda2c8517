import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from deblurkit.memory.processes import (
    Process,
    SystemProcesses,
    UserMemory,
    holders,
    is_deblurkit,
    own_runs,
    process_tree,
)

MIB = 2**20
TRAIN = ("/venv/bin/python", "-m", "deblurkit", "train")


def process(
    pid, parent, *, rss=10, pss=None, user="alice", uid=1000, command=TRAIN, name="python", rank=None
):
    """A process of ``rss`` MiB; its shared memory is one half where PSS is given."""
    sizes = {} if pss is None else {"pss_bytes": pss * MIB, "uss_bytes": pss * MIB // 2, "swap_bytes": 0}
    rss = None if rss is None else rss * MIB
    return Process(pid, parent, uid, user, name, command, 0.0, rss, rank=rank, **sizes)


class Recorded:
    """Processes as they were; PSS and rank are told of those of one user alone."""

    def __init__(self, *found, uid=1000):
        self.found, self.uid = {each.pid: each for each in found}, uid

    def processes(self):
        hidden = {"pss_bytes": None, "uss_bytes": None, "rank": None}
        return [replace(each, **hidden) for each in self.found.values()]

    def closely(self, process):
        return self.found[process.pid] if process.uid == self.uid else process


LAUNCHED = (
    process(100, 1, rss=300, pss=150),
    process(110, 100, rss=2000, pss=1500, rank=0),
    process(111, 110, rss=900, pss=300, rank=0, name="pt_data_worker"),
    process(112, 110, rss=950, pss=310, rank=0, name="pt_data_worker"),
    process(113, 110, rss=12, pss=9, rank=0, command=("python", "-c", "multiprocessing.resource_tracker")),
    process(120, 100, rss=2100, pss=1600, rank=1),
    process(121, 120, rss=901, pss=301, rank=1, name="pt_data_worker"),
    process(7, 1, rss=50, user="root", uid=0, command=("sshd",), name="sshd"),
)


def kinds(tree):
    return [(group.role, group.rank, [each.pid for each in group.members]) for group in tree.groups]


def test_ranks_and_their_workers_are_groups_of_a_launched_run():
    tree = process_tree(Recorded(*LAUNCHED), 100)
    assert kinds(tree) == [
        ("launcher", None, [100]),
        ("rank", 0, [110]),
        ("worker", 0, [112, 111]),
        ("other", 0, [113]),
        ("rank", 1, [120]),
        ("worker", 1, [121]),
    ]
    workers = tree.groups[2]
    assert (workers.rss_bytes, workers.pss_bytes, workers.uss_bytes) == (1850 * MIB, 610 * MIB, 305 * MIB)
    assert tree.total.pss_bytes == (150 + 1500 + 300 + 310 + 9 + 1600 + 301) * MIB
    assert tree.total.rss_bytes > tree.total.pss_bytes


def test_a_single_process_is_the_main_one_and_forks_are_its_workers():
    spawned = ("python", "-c", "from multiprocessing.spawn import spawn_main; spawn_main()")
    tree = process_tree(
        Recorded(
            process(10, 1, rss=5),
            process(11, 10, rss=4, name="pt_data_worker"),
            process(12, 10, rss=3),
            process(13, 10, rss=2, command=spawned),
            process(14, 10, rss=1, command=("git", "status")),
            process(15, 14, rss=1, command=("less",)),
        ),
        10,
    )
    assert kinds(tree) == [
        ("main", None, [10]),
        ("worker", None, [11, 12]),
        ("helper", None, [13]),  # predicts or converts: our own workers are forked
        ("other", None, [14, 15]),
    ]


def test_copies_of_a_shell_are_no_loader_workers_and_a_trial_is_a_helper():
    shell = ("bash", "run.sh")
    tree = process_tree(Recorded(process(10, 1, command=shell), process(11, 10, command=shell)), 10)
    assert kinds(tree) == [("main", None, [10]), ("other", None, [11])]
    search, trial = (
        ("deblurkit", "recommend-config"),
        ("python", "-m", "deblurkit.tuning.recommend.trial_child"),
    )
    tree = process_tree(Recorded(process(10, 1, command=search), process(11, 10, command=trial)), 10)
    assert kinds(tree) == [("main", None, [10]), ("helper", None, [11])]


def test_what_another_program_has_spawned_may_be_its_workers():
    spawned = ("python", "-c", "from multiprocessing.spawn import spawn_main; spawn_main()")
    found = Recorded(process(10, 1, command=("python", "theirs.py")), process(11, 10, command=spawned))
    assert kinds(process_tree(found, 10)) == [("main", None, [10]), ("worker", None, [11])]


def test_sums_that_miss_a_process_are_unknown_and_say_how_many():
    found = Recorded(process(10, 1, pss=8), process(11, 10, uid=0, user="root"))
    total = process_tree(found, 10).total
    assert (total.pss_bytes, total.uss_bytes, total.unseen) == (None, None, 1)
    assert total.rss_bytes == 20 * MIB


def test_a_process_that_is_not_there_has_no_tree():
    assert process_tree(Recorded(), 5) is None


def test_runs_of_a_user_are_whole_trees_and_one_that_asks_is_none():
    other = process(300, 1, rss=9000, uid=1001, user="bob")
    orphan = process(200, 1, rss=800, name="pt_data_worker")
    asking = process(400, 1, command=("/venv/bin/python", "/venv/bin/deblurkit", "diagnose-memory"))
    child = process(401, 400)
    trees = own_runs(Recorded(*LAUNCHED, other, orphan, asking, child), uid=1000, but=400)
    assert [tree.root.pid for tree in trees] == [100, 200]
    assert kinds(trees[1]) == [("worker", None, [200])]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (TRAIN, True),
        (("/venv/bin/python", "/venv/bin/deblurkit", "train"), True),
        (("deblurkit", "train"), True),
        (("vim", "deblurkit/units.py"), False),
        (("python", "-m", "pytest", "deblurkit"), False),
        ((), False),
    ],
)
def test_a_run_is_known_by_its_command(command, expected):
    assert is_deblurkit(process(1, 0, command=command)) is expected


def test_users_and_processes_that_hold_most_come_first():
    found = holders(
        Recorded(
            process(1, 0, rss=100, pss=60),
            process(2, 0, rss=300, user="王小明", uid=1002),
            process(3, 0, rss=250, pss=90),
            process(4, 0, rss=None, user="root", uid=0),
            process(5, 0, rss=1, user=None, uid=None),
        ),
        most=2,
    )
    assert found.users == (UserMemory("alice", 2, 350 * MIB), UserMemory("王小明", 1, 300 * MIB))
    assert [(each.pid, each.pss_bytes) for each in found.largest] == [(2, None), (3, 90 * MIB)]
    assert found.unseen_processes == 1


FORKS = """
import os, sys
held = os.urandom(1) * (64 * 2**20)
child = os.fork()
if child == 0:
    os.read(0, 1)
    os._exit(0)
print(child, flush=True)
os.read(0, 1)
os.waitpid(child, 0)
"""


def test_a_child_shares_what_it_has_not_touched():
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        pid = int(started.stdout.readline())
        tree = process_tree(SystemProcesses(), started.pid)
        started.stdin.close()
    assert kinds(tree) == [("main", None, [started.pid]), ("worker", None, [pid])]
    main, worker = (group.members[0] for group in tree.groups)
    assert main.rss_bytes > 64 * MIB
    assert worker.uss_bytes < 16 * MIB  # the pages are shared still
    assert main.pss_bytes == pytest.approx(worker.pss_bytes, rel=0.2)  # half of them count as each one's own
    assert 32 * MIB < worker.pss_bytes < 48 * MIB
    assert 64 * MIB < tree.total.pss_bytes < 96 * MIB


def test_the_rank_of_a_process_is_what_its_environment_says():
    code = "import sys; print(flush=True); sys.stdin.read()"
    environment = {**os.environ, "RANK": "3"}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        started.stdout.readline()
        tree = process_tree(SystemProcesses(), os.getpid())
        started.stdin.close()
    assert ("rank", 3) in [(group.role, group.rank) for group in tree.groups]


def test_the_system_tells_of_this_process():
    reader = SystemProcesses()
    own = next(each for each in reader.processes() if each.pid == os.getpid())
    assert (own.uid, own.user, own.parent) == (os.getuid(), psutil.Process().username(), os.getppid())
    assert own.pss_bytes is None
    closely = reader.closely(own)
    assert 0 < closely.uss_bytes <= closely.pss_bytes <= closely.rss_bytes


def test_a_process_that_has_ended_is_gone_although_nobody_has_asked_how():
    with subprocess.Popen([sys.executable, "-c", ""]) as started:
        os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        assert psutil.pid_exists(started.pid)
        assert started.pid not in {each.pid for each in SystemProcesses().processes()}


def test_a_process_that_has_ended_is_left_as_it_was():
    gone = process(2**22 + 1, 1, rss=5)
    assert SystemProcesses().closely(gone) == gone
