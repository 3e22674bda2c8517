import datetime
import json
import os
import platform
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from deblurkit.memory.aftermath import RunEnd, aftermath, read_run_end
from deblurkit.memory.kernel_log import KernelLog
from deblurkit.memory.pressure import OomCount
from deblurkit.memory.rows import LastMemory

HERE = "gpu01"
BOOTED = 1_000_000.0
STARTED = 1_010_000.0  # 10,000 s after boot
UNREADABLE = KernelLog((), None, "the kernel log cannot be read")
GROUP = Path("/sys/fs/cgroup/job/memory.events")


def log(*lines):
    return KernelLog(lines, Path("/dev/kmsg"))


def killed(pid, *, since_boot=10_100.0, group=None, name="python"):
    stamp = f"[{since_boot:.6f}]"
    head = "Out of memory" if group is None else "Memory cgroup out of memory"
    constraint = "global_oom" if group is None else f"oom_memcg={group}"
    return (
        f"{stamp} oom-kill:constraint=X,{constraint},task_memcg=/a,task={name},pid={pid},uid=1",
        f"{stamp} {head}: Killed process {pid} ({name}) total-vm:9kB, anon-rss:{20 * 2**20}kB, file-rss:0kB,"
        " shmem-rss:0kB, UID:1 pgtables:1kB oom_score_adj:0",
    )


def end(status="killed", *, error=None, ended_at=None, hostname=HERE, pid=4242, told=()):
    return RunEnd(status, error, STARTED, ended_at, hostname, pid, told)


def causes(run, *, kernel=None, counts=(), booted_at=BOOTED):
    found = aftermath(run, log=kernel or log(), counts=counts, booted_at=lambda: booted_at, hostname=HERE)
    return [(cause.kind, cause.certainty) for cause in found.causes], found


def test_a_kill_of_the_runs_own_process_is_certain():
    kinds, found = causes(end(), kernel=log(*killed(4242)))
    assert kinds == [("machine-memory", "certain")]
    moment = datetime.datetime.fromtimestamp(BOOTED + 10_100).strftime("%Y-%m-%d %H:%M:%S")
    assert found.causes[0].text == (
        "the machine was out of memory: the kernel killed process 4242 (python) with 20.00 GiB, of this run,"
        f" at {moment}"
    )
    assert found.causes[0].source == "/dev/kmsg"


def test_a_groups_limit_is_named():
    kinds, found = causes(end(), kernel=log(*killed(4242, group="/slurm/job_12")))
    assert kinds == [("cgroup-limit", "certain")]
    assert found.causes[0].text.startswith("the control group /slurm/job_12 was at its limit: ")


def test_a_worker_that_the_run_has_lost_is_of_the_run():
    error = "a loader worker was killed (DataLoader worker (pid 5151) is killed by signal: Killed. )"
    kinds, _ = causes(end("failed", error=error), kernel=log(*killed(5151, name="pt_data_worker")))
    assert kinds == [("machine-memory", "certain"), ("signal", "certain")]


def test_a_process_that_an_error_names_as_a_holder_is_not_of_the_run():
    error = "CUDA out of memory. Process 5151 has 70.00 GiB memory in use."
    kinds, _ = causes(end("failed", error=error), kernel=log(*killed(5151)))
    assert kinds == [("gpu-memory", "certain"), ("machine-memory", "likely")]


def test_a_kill_of_that_time_is_likely_and_one_before_or_after_it_is_no_reason():
    before, after = killed(9, since_boot=9_000.0), killed(9, since_boot=12_000.0)
    kinds, found = causes(end(), kernel=log(*before, *killed(77)))
    assert kinds == [("machine-memory", "likely")]
    assert "not known to be of this run" in found.causes[0].text
    assert causes(end(), kernel=log(*before))[0] == [("unknown", "possible")]
    run = end("failed", error="ValueError: x", ended_at=STARTED + 500)
    assert causes(run, kernel=log(*after))[0] == [("error", "certain")]


HOUR, DAY = 3600.0, 86_400.0


@pytest.mark.parametrize(
    ("pid", "later", "certainties"),
    [
        (77, 300, ["likely"]),
        (77, HOUR, ["possible"]),
        (77, 3 * DAY, ["possible"]),
        (4242, 3 * HOUR, ["certain"]),  # a long validation says nothing
        (4242, 3 * DAY, ["possible"]),  # the number is another's by then
    ],
)
def test_a_run_that_was_killed_ended_soon_after_its_last_sign_of_life(pid, later, certainties):
    """It has been silent since 10,000 s after the boot."""
    run = replace(end(), last_sign_at=STARTED)
    found = causes(run, kernel=log(*killed(pid, since_boot=10_000.0 + later)))[0]
    assert [certainty for _, certainty in found] == certainties


def test_the_last_sign_of_life_is_the_newest_of_its_record_and_logs(run_folder):
    folder = run_folder(lines=["x"])
    timing = folder / "logs/timing_1010000.rank0.jsonl"
    timing.write_text("{}\n")
    (folder / "config.yaml").write_text("the user's")
    names = {"run.json": 50.0, "logs/train_1010000.log": 70.0, timing: 90.0, "config.yaml": 99.0}
    for name, seconds in names.items():
        os.utime(folder / name, (STARTED + seconds, STARTED + seconds))
    assert read_run_end(folder).last_sign_at == STARTED + 90
    timing.unlink()
    assert read_run_end(folder).last_sign_at == STARTED + 70


def test_where_the_kernel_is_silent_counters_are_a_possibility():
    counts = [
        OomCount(GROUP, False, 2, 2),
        OomCount(Path("/proc/vmstat"), True, 1, None),
        OomCount(GROUP, False, 0, 0),
    ]
    kinds, found = causes(end(), kernel=UNREADABLE, counts=counts)
    assert kinds == [("cgroup-limit", "possible"), ("machine-memory", "possible")]
    assert "2 processes in this control group" in found.causes[0].text
    assert found.unseen == ("the kernel log cannot be read",)
    assert causes(end(), counts=counts)[0] == [("unknown", "possible")]  # the log would have the kill


def test_a_restart_ends_all():
    assert causes(end(), booted_at=STARTED + 60)[0] == [("restart", "certain")]


@pytest.mark.parametrize(("later", "certainty"), [(300, "certain"), (3 * 86_400, "possible")])
def test_a_restart_days_after_the_last_sign_of_life_is_no_more_than_possible(later, certainty):
    run = replace(end(), last_sign_at=STARTED + 50)
    kinds, found = causes(run, booted_at=STARTED + 50 + later)
    assert kinds == [("restart", certainty)]
    assert ("silent" in found.causes[0].text) is (certainty == "possible")


def test_what_nobody_knows_is_said_to_be_unknown():
    kinds, found = causes(end())
    assert kinds == [("unknown", "possible")]
    assert "a user, a job scheduler's limit" in found.causes[0].text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("memory of cuda:0 has run out: 20.0 MiB asked for, 2.5 MiB free, 79.15 GiB in all", "gpu-memory"),
        ("CUDA out of memory. Tried to allocate 20.00 MiB.", "gpu-memory"),
        ("host memory has run out: 37252.90 GiB asked for", "host-allocation"),
        ("Unable to allocate 3.00 GiB for an array with shape (9,)", "host-allocation"),
        ("rank 1 was killed by SIGKILL; --resume auto goes on", "signal"),
        ("the loss is nan", "error"),
    ],
)
def test_the_runs_own_words_are_a_reason(error, kind):
    assert causes(end("failed", error=error))[0] == [(kind, "certain")]


def test_a_log_that_ends_with_a_warning_is_a_likely_reason():
    kinds, found = causes(end(told=("2026-11-21 10:00:00 RuntimeError: CUDA out of memory.",)))
    assert kinds == [("gpu-memory", "likely")]
    assert found.causes[0].source == "the run's log"


def test_the_kernel_of_another_machine_says_nothing():
    kinds, found = causes(end(hostname="gpu02"), kernel=log(*killed(4242)))
    assert kinds == []
    assert found.unseen == ("the run was on gpu02: what the kernel of gpu01 says is not of it",)


@pytest.mark.parametrize("status", ["finished", "running", "interrupted", "unknown"])
def test_a_run_that_has_not_failed_needs_no_reason(status):
    assert causes(end(status), kernel=log(*killed(4242)))[0] == []


@pytest.fixture
def run_folder(tmp_path):
    """Return a function that makes a run's folder with the record of its newest part."""

    def make(part=None, *, lock=None, lines=None):
        moment = datetime.datetime.fromtimestamp(STARTED, tz=datetime.timezone.utc).isoformat()
        whole = {"status": "running", "started_at": moment, "ended_at": None, "hostname": HERE, "error": None}
        parts = [{"status": "killed"}, whole | (part or {})]
        (tmp_path / "run.json").write_text(json.dumps({"schema": "deblurkit-run/1", "parts": parts}))
        if lock is not None:
            (tmp_path / ".lock").write_text(lock)
        if lines is not None:
            (tmp_path / "logs").mkdir()
            (tmp_path / f"logs/train_{int(STARTED)}.log").write_text("\n".join(lines), encoding="utf-8")
        return tmp_path

    return make


@pytest.mark.parametrize(("lives", "status"), [(True, "running"), (False, "killed")])
def test_a_run_that_has_not_told_its_end_runs_or_was_killed(run_folder, lives, status):
    asked = []

    def runs_still(pid, since):
        asked.append((pid, since))
        return lives

    folder = run_folder(lock=f"process 4242 on {HERE}\n")
    found = read_run_end(folder, runs_still=runs_still, hostname=HERE)
    assert (found.status, found.pid, found.hostname) == (status, 4242, HERE)
    assert asked == [(4242, STARTED)]


@pytest.mark.parametrize("lock", [None, "process 4242 on gpu02\n", "damaged"])
def test_whether_it_runs_is_unknown_without_a_lock_of_this_machine(run_folder, lock):
    found = read_run_end(run_folder(lock=lock), runs_still=lambda pid, since: False, hostname=HERE)
    assert found.status == "unknown"


def test_the_end_that_a_run_tells_is_taken(run_folder):
    ended = {"status": "failed", "error": "x: y", "ended_at": "1970-01-12T20:34:00+00:00"}
    found = read_run_end(run_folder(ended))
    assert (found.status, found.error, found.ended_at) == ("failed", "x: y", 1_024_440.0)


def test_of_the_log_what_tells_of_memory_and_kills_is_kept(run_folder):
    stamp = "2026-11-21 10:00:00"
    error = f"{stamp} MemoryError: 内存不足"
    lines = [
        f"{stamp} step 1 loss 0.5",
        error,
        f"{stamp} saved checkpoint",
        f"{stamp} Killed",
        f"{stamp} end",
    ]
    found = read_run_end(run_folder({"hostname": HERE}, lines=lines))
    assert found.told == (error, f"{stamp} Killed")
    assert found.status == "unknown"


def test_a_folder_without_a_record_is_unknown(tmp_path):
    assert read_run_end(tmp_path) == RunEnd("unknown", None, None, None, None, None, ())


def test_this_process_is_known_to_run(run_folder):
    folder = run_folder(
        {
            "started_at": datetime.datetime.now(tz=datetime.timezone.utc).isoformat(),
            "hostname": platform.node(),
        },
        lock=f"process {os.getpid()} on {platform.node()}\n",
    )
    assert psutil.Process().create_time() < datetime.datetime.now().timestamp()
    assert read_run_end(folder).status == "running"


def test_a_process_that_has_taken_the_number_since_is_another(run_folder):
    folder = run_folder({"hostname": platform.node()}, lock=f"process {os.getpid()} on {platform.node()}\n")
    assert read_run_end(folder).status == "killed"  # it began long before this process did


def memory(*, left, limit="RAM", kind="ram", warnings=()):
    return LastMemory(120, STARTED, 5, 20 * 2**30, limit, kind, 64 * 2**30, left, warnings)


@pytest.mark.parametrize(("kind", "cause"), [("ram", "machine-memory"), ("cgroup", "cgroup-limit")])
def test_memory_that_was_short_at_the_last_look_is_likely(kind, cause):
    run = replace(end(), memory=memory(left=2**30, limit="cgroup memory.max", kind=kind))
    kinds, found = causes(run, kernel=UNREADABLE)
    assert kinds == [(cause, "likely")]
    text = "5 processes of the run held 20.00 GiB, and 1.00 GiB of 64.00 GiB were left (cgroup memory.max)"
    assert text in found.causes[0].text
    assert found.causes[0].source == "the run's log of its memory"


def test_memory_that_was_not_short_is_said_where_nobody_knows_more():
    kinds, found = causes(replace(end(), memory=memory(left=30 * 2**30)))
    assert kinds == [("unknown", "possible")]
    assert "; memory was not short: after step 120 (" in found.causes[0].text


def test_a_leak_that_the_run_has_warned_of_is_possible_and_told_once():
    leak, full = "memory of the main process grows", "System memory usage is critically high (91.0%)!"
    run = replace(
        end(told=(f"2026-11-21 10:00:00 [Step 5] WARNING: {full}",)),
        memory=memory(left=30 * 2**30, warnings=(leak, full)),
    )
    kinds, found = causes(run)
    assert kinds == [("machine-memory", "likely"), ("machine-memory", "possible")]
    assert found.causes[1].text.startswith(f"the run had warned: {leak}; after step 120 (")


def test_an_error_that_the_run_has_told_needs_no_guess_by_memory():
    run = replace(end("failed", error="the loss is nan"), memory=memory(left=0))
    assert causes(run)[0] == [("error", "certain")]


def test_a_worker_that_the_record_names_is_of_the_run():
    kernel = log(*killed(5151, name="pt_data_worker"))
    assert causes(replace(end(), pids=(4242, 5151)), kernel=kernel)[0] == [("machine-memory", "certain")]
    assert causes(end(), kernel=kernel)[0] == [("machine-memory", "likely")]


@pytest.mark.parametrize(
    ("pids", "expected"),
    [
        ([{"main": 1, "workers": [2, 3]}, {"main": 4, "workers": []}], (1, 2, 3, 4)),
        ([{"main": None}, 7], ()),
        ("x", ()),
        (None, ()),
    ],
)
def test_the_numbers_of_processes_are_read_from_the_record(run_folder, pids, expected):
    assert read_run_end(run_folder({"pids": pids})).pids == expected


def test_the_last_look_is_read_from_the_runs_own_log(run_folder):
    folder = run_folder(lines=["x"])
    process = {"role": "main", "pid": 1, "rss_bytes": 9, "pss_bytes": 5}
    limit = {"name": "RAM", "kind": "ram", "limit_bytes": 100, "available_bytes": 5}
    note = {"names": [], "memory": {"step": 7, "processes": [process], "limit": limit}, "after_step": 7}
    text = json.dumps(note, separators=(",", ":"))
    (folder / f"logs/timing_{int(STARTED)}.rank0.jsonl").write_text(f"{text}\n")
    found = read_run_end(folder).memory
    assert (found.step, found.held_bytes, found.was_short) == (7, 5, True)
