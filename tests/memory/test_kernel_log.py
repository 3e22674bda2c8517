import os

import pytest

from deblurkit.memory.kernel_log import KernelLog, OomKill, oom_kills, read_kernel_log

# As Linux 6.18 has written it; figures and groups of the second are made up.
MACHINE = """[31430.053485] python invoked oom-killer: gfp_mask=0x140dca, order=0, oom_score_adj=0
[31430.054148]  oom_kill_process.cold+0x8/0x8a
[31430.055094] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
task_memcg=/user.slice,task=python,pid=7724,uid=1000
[31430.055124] Out of memory: Killed process 7724 (python) total-vm:16796292kB, anon-rss:12234116kB, \
file-rss:92kB, shmem-rss:124kB, UID:1000 pgtables:26860kB oom_score_adj:0
[31430.300000] oom_reaper: reaped process 7724 (python), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB"""
GROUP = """[  500.250000] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
oom_memcg=/slurm/job_12,task_memcg=/slurm/job_12/step_0,task=pt_data_worker,pid=4242,uid=1001
[  500.250001] Memory cgroup out of memory: Killed process 4242 (pt_data_worker) total-vm:9kB, anon-rss:2kB, \
file-rss:1kB, shmem-rss:1kB, UID:1001 pgtables:8kB oom_score_adj:0"""


def test_a_kill_for_the_machine_names_no_group():
    assert oom_kills(MACHINE.splitlines(), booted_at=lambda: 1000.0) == [
        OomKill(7724, "python", 1000, 1024 * (12234116 + 92 + 124), "", "/user.slice", 32430.055124)
    ]


def test_a_kill_for_a_control_group_names_it():
    assert oom_kills(GROUP.splitlines(), booted_at=lambda: 0.0) == [
        OomKill(4242, "pt_data_worker", 1001, 4096, "/slurm/job_12", "/slurm/job_12/step_0", 500.250001)
    ]


def test_what_is_not_told_is_none():
    line = (
        "Nov 21 10:00:00 host kernel: Memory cgroup out of memory: Kill process 5 (a b) score 9 or sacrifice"
    )
    assert oom_kills([line], booted_at=lambda: 0.0) == [OomKill(5, "a b", None, None, None, None, None)]


def test_the_groups_of_another_kill_are_not_taken():
    lines = [*GROUP.splitlines()[:1], *MACHINE.splitlines()[3:]]
    (kill,) = oom_kills(lines, booted_at=lambda: 0.0)
    assert (kill.pid, kill.task_cgroup) == (7724, None)


def test_a_device_is_read_to_its_end_as_records(tmp_path):
    device = tmp_path / "kmsg"
    os.mkfifo(device)  # like the device it has nothing to read at its end, and does not end
    writer = os.open(device, os.O_RDWR)
    os.write(writer, "6,12,31430053485,-;内存 gone\n SUBSYSTEM=pci\n4,13,5000000,c;second\n".encode())
    try:
        log = read_kernel_log(device, [])
    finally:
        os.close(writer)
    assert log == KernelLog(("[31430.053485] 内存 gone", "[5.000000] second"), device)


def test_without_the_right_to_it_the_loggers_file_is_read(tmp_path):
    (tmp_path / "syslog").write_bytes(b"Nov 21 kernel: [  1.5] one \xff\ntwo\n")
    log = read_kernel_log(tmp_path / "kmsg", [tmp_path / "kern.log", tmp_path / "syslog"])
    assert log.source == tmp_path / "syslog"
    assert log.lines[1] == "two"


def in_file(pid, seconds):
    head = "Nov 21 10:00:00 host kernel:"
    return f"{head} [{seconds:12.6f}] Out of memory: Killed process {pid} (python) total-vm:9kB, anon-rss:2kB"


WITH_STAMP = "Nov 22 kernel: [    0.000000] Linux version 6.8.0-45-generic (x@y) (gcc 13.2)"
WITHOUT = "Nov 22 kernel: Linux version 6.8.0-45-generic (x@y) (gcc 13.2)"


@pytest.mark.parametrize(
    ("length", "start"),
    [(length, [line]) for length in (90.0, 90_000.0) for line in (WITH_STAMP, WITHOUT)] + [(90_000.0, [])],
)
def test_of_a_loggers_file_what_it_says_since_the_last_boot_counts(tmp_path, length, start):
    """Two boots; times of both count from their own, and only that of the last one is known.

    Some loggers lose the first lines of a boot: the clock begins anew all the same."""
    lines = [in_file(1, length), "Nov 21 host sshd: no stamp", *start, in_file(2, 100), in_file(3, 99.9995)]
    (tmp_path / "kern.log").write_text("\n".join(lines))
    log = read_kernel_log(tmp_path / "kmsg", [tmp_path / "kern.log"])
    kills = oom_kills(log.lines, booted_at=lambda: 5000.0)
    assert [(kill.pid, kill.at) for kill in kills] == [(2, 5100.0), (3, 5099.9995)]


def test_a_file_that_was_not_written_since_the_boot_says_nothing_of_it(tmp_path):
    path = tmp_path / "kern.log"
    path.write_text(in_file(1, 50.0))
    os.utime(path, (1000.0, 1000.0))

    def read(booted_at):
        return read_kernel_log(tmp_path / "kmsg", [path], booted_at=lambda: booted_at)

    assert (read(1001.0).source, read(1001.0).lines) == (None, ())
    assert (read(999.0).source, len(read(999.0).lines)) == (path, 1)


def test_where_nothing_can_be_read_it_says_so(tmp_path):
    log = read_kernel_log(tmp_path / "kmsg", [tmp_path / "kern.log"])
    assert (log.lines, log.source) == ((), None)
    assert log.unseen == "the kernel log cannot be read (No such file or directory); root sees it: sudo dmesg"
