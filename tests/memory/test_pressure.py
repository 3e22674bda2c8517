from pathlib import Path

from deblurkit.memory.pressure import OomCount, Stall, memory_pressure, oom_counts

PSI = """some avg10=1.50 avg60=20.00 avg300=0.25 total=3054119
full avg10=0.00 avg60=10.00 avg300=0.00 total=2323723"""


def test_shares_are_of_one_and_times_in_seconds(machine_of, tmp_path):
    (found,) = memory_pressure(machine_of({"proc/pressure/memory": PSI}))
    assert found.source == tmp_path / "proc/pressure/memory"
    assert found.some == Stall(0.015, 0.2, 0.0025, 3.054119)
    assert found.full == Stall(0.0, 0.1, 0.0, 2.323723)


def test_groups_have_pressure_of_their_own(machine_of, tmp_path):
    files = {"proc/self/cgroup": "0::/job", "cgroup/job/memory.pressure": PSI.splitlines()[0]}
    (found,) = memory_pressure(machine_of(files))
    assert found.source == tmp_path / "cgroup/job/memory.pressure"
    assert found.full is None


def test_a_kernel_without_it_or_one_that_writes_it_otherwise_gives_none(machine_of):
    assert memory_pressure(machine_of()) == []
    assert memory_pressure(machine_of({"proc/pressure/memory": "some avg10"})) == []
    assert memory_pressure(machine_of({"proc/pressure/memory": "some avg10=1"})) == []


def test_kills_of_each_group_and_of_the_machine(machine_of, tmp_path):
    files = {
        "proc/self/cgroup": "0::/user/job",
        "proc/vmstat": "pgfault 100\noom_kill 3",
        "cgroup/user/job/memory.events": "low 0\nhigh 9\nmax 5\noom 2\noom_kill 1\noom_group_kill 0",
        "cgroup/user/memory.events": "max 5\noom 2\noom_kill 2",
    }
    assert oom_counts(machine_of(files)) == [
        OomCount(tmp_path / "cgroup/user/job/memory.events", False, 1, 2),
        OomCount(tmp_path / "cgroup/user/memory.events", False, 2, 2),
        OomCount(tmp_path / "proc/vmstat", True, 3, None),
    ]


def test_kills_of_version_1(machine_of, tmp_path):
    files = {
        "proc/7/cgroup": "4:memory:/",
        "cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4",
        "cgroup/memory/memory.failcnt": "77",
    }
    source = Path(tmp_path / "cgroup/memory/memory.oom_control")
    assert oom_counts(machine_of(files), pid=7) == [OomCount(source, False, 4, 77)]
