import pytest

from deblurkit.cgroups import Cgroup
from deblurkit.memory.machine import unseen_processes

WHOLE = {"proc/2/comm": "kthreadd", "proc/self/mounts": "proc /proc proc rw,relatime 0 0"}


def test_sizes_are_in_bytes(machine_of):
    machine = machine_of({"proc/meminfo": "MemTotal:       24684092 kB\nHugePages_Total:       0\nbroken"})
    assert machine.meminfo() == {"MemTotal": 24684092 * 1024, "HugePages_Total": 0}


def test_another_process_has_groups_of_its_own(machine_of, tmp_path):
    machine = machine_of({"proc/77/cgroup": "0::/job", "proc/self/cgroup": "0::/"})
    root = tmp_path / "cgroup"
    assert list(machine.memory_groups(77)) == [Cgroup(root / "job", 2), Cgroup(root, 2)]
    assert list(machine.memory_groups(None)) == [Cgroup(root, 2)]


def test_outside_a_container_all_processes_are_seen(machine_of):
    assert unseen_processes(machine_of(WHOLE)) == []


@pytest.mark.parametrize("second", [{"proc/2/comm": "python"}, {}])
def test_only_the_outermost_namespace_has_kernel_threads(machine_of, second):
    files = {name: text for name, text in WHOLE.items() if "comm" not in name}
    (line,) = unseen_processes(machine_of(files | second))
    assert "container" in line


def hiding(option):
    return f"tmpfs /x tmpfs hidepid=2 0 0\nproc /proc proc rw,nosuid,{option} 0 0"


@pytest.mark.parametrize("option", ["hidepid=2", "hidepid=invisible"])
def test_hidden_processes_are_told_of(machine_of, option):
    """Kernel threads are root's, so that such a mount hides them too."""
    (line,) = unseen_processes(machine_of({"proc/self/mounts": hiding(option)}))
    assert "hidepid" in line


def test_who_sees_roots_processes_sees_all_of_them(machine_of):
    """Root, and the group that such a mount makes an exception of."""
    assert unseen_processes(machine_of(WHOLE | {"proc/self/mounts": hiding("hidepid=2")})) == []
