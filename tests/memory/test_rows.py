import json
import os
from pathlib import Path

import pytest

from deblurkit.analysis.formats.log_events import kind_of
from deblurkit.analysis.formats.log_figures import figures_of
from deblurkit.memory.leaks import Owner
from deblurkit.memory.limits import Resource
from deblurkit.memory.monitor import CudaMemory, MemoryLook, ProcessMemory
from deblurkit.memory.rows import LastMemory, as_line, as_row, last_memory, used_share

MB, GB, GIB = 10**6, 10**9, 2**30
MAIN, WORKER = Owner("main", 42), Owner("worker", 51, 0)


def limit(name="RAM", kind="ram", *, total=256 * GB, left=131 * GB):
    return Resource(kind, name, total, None, left, Path("/proc/meminfo"), "")


def look(*, limits=None, cuda=None):
    """The seeds' example: 15678.9 MB of a machine of 256 GB, of which 125 are used."""
    processes = (
        ProcessMemory(MAIN, 20_000 * MB, 15_000 * MB, 14_000 * MB),
        ProcessMemory(WORKER, 900 * MB, 678_900_000, 500 * MB),
    )
    given = (limit(), limit("/dev/shm", "shm", left=GIB)) if limits is None else limits
    return MemoryLook(processes, given, cache_bytes=3 * GIB, cuda=cuda)


def test_the_line_begins_as_the_seeds_did():
    line = as_line(look(), step=100)
    assert line.startswith(
        "[Step 100] Memory - Process: 15678.9MB (6.1%), System: 125.0/256.0GB (48.8%) | main 13.97 GiB"
        " | 1 worker 647.4 MiB | 122.00 GiB left of RAM | 1.00 GiB left of /dev/shm | cache 3.00 GiB"
    )
    assert as_line(look(), step=None).startswith("[After dataset creation] Memory - Process: 15678.9MB")


def test_the_reader_of_the_seeds_lines_takes_it_and_sees_no_event():
    line = as_line(look(cuda=CudaMemory("cuda:0", GIB, GIB, GIB, GIB, GIB)), step=100).encode()
    figures = {figure.name: (figure.value, figure.step) for figure in figures_of(line)}
    assert figures == {
        "process_memory_bytes": (pytest.approx(15_678_900_000), 100),
        "host_memory_share": (pytest.approx(0.488), 100),
    }
    assert kind_of(line) is None


def test_a_machine_that_does_not_tell_its_limits_has_a_line_too():
    assert as_line(look(limits=()), step=7).startswith("[Step 7] Memory - Process: 15678.9MB | main")


def test_a_gpu_is_told_of():
    line = as_line(look(cuda=CudaMemory("cuda:1", 2 * GIB, 3 * GIB, 4 * GIB, 5 * GIB, 48 * GIB)), step=1)
    assert line.endswith("cuda:1: 2.00 GiB allocated, 4.00 GiB at most, 3.00 GiB reserved, 5.00 GiB free")


def test_a_row_is_plain_values():
    row = json.loads(json.dumps(as_row(look(), step=100)))
    assert row["processes"][1] == {
        "role": "worker",
        "number": 0,
        "pid": 51,
        "rss_bytes": 900 * MB,
        "pss_bytes": 678_900_000,
        "uss_bytes": 500 * MB,
    }
    ram = {"name": "RAM", "kind": "ram", "limit_bytes": 256 * GB, "available_bytes": 131 * GB}
    assert (row["step"], row["limit"], row["shm"]["name"]) == (100, ram, "/dev/shm")
    assert (row["cache_bytes"], row["cuda"]) == (3 * GIB, None)


@pytest.mark.parametrize(
    ("resource", "share"),
    [(limit(total=10, left=1), 0.9), (limit(total=None), None), (limit(left=None), None), (None, None)],
)
def test_the_share_of_a_limit(resource, share):
    assert used_share(resource) == share


def log_of(folder, *, started=1_000, rank=0, notes=(), end=""):
    """Write a timing log that holds a step, and notes of memory as a run makes them."""
    lines = ['{"schema":"deblurkit-timing/1","names":["a"]}', "[1,5.0,1.0,1.0]"]
    lines += [json.dumps({"names": ["a"], **note}, separators=(",", ":")) for note in notes]
    path = folder / f"timing_{started}.rank{rank}.jsonl"
    path.write_text("\n".join([*lines, end]), encoding="utf-8")
    return path


def note(step, *, left=131 * GB, at=2_000.0):
    row = as_row(look(limits=(limit(left=left),)), step=step)
    return {"memory": row, "after_step": step or 0, "unix_time": at}


def test_the_newest_look_of_the_newest_part_is_read_back(tmp_path):
    log_of(tmp_path, started=900, notes=[note(700)])
    log_of(tmp_path, notes=[note(None), note(100)], end='{"names":["a"],"memory":{"step":200,"proc')
    found = last_memory(tmp_path)
    assert found == LastMemory(100, 2_000.0, 2, 15_678_900_000, "RAM", "ram", 256 * GB, 131 * GB)
    assert not found.was_short
    assert found.as_words().endswith(
        "2 processes of the run held 14.60 GiB, and 122.00 GiB of 238.42 GiB were left (RAM)"
    )


def test_ranks_add_up_and_the_least_that_was_left_counts(tmp_path):
    warning = {"memory_warning": {"text": "memory of rank 1 grows"}, "after_step": 90, "unix_time": 1.0}
    log_of(tmp_path, notes=[note(100)])
    log_of(tmp_path, rank=1, notes=[warning, note(110, left=20 * GB, at=2_010.0), warning])
    found = last_memory(tmp_path)
    assert (found.step, found.processes, found.held_bytes) == (110, 4, 2 * 15_678_900_000)
    assert (found.available_bytes, found.was_short) == (20 * GB, True)
    assert found.warnings == ("memory of rank 1 grows",)


@pytest.mark.parametrize("damaged", ['{"memory":{}}', '{"memory":{"processes":7,"limit":null}}', "\x00"])
def test_a_log_without_a_look_says_nothing(tmp_path, damaged):
    log_of(tmp_path, end=damaged)
    assert last_memory(tmp_path) is None


def test_a_log_of_an_earlier_part_says_nothing(tmp_path):
    path = log_of(tmp_path, notes=[note(100)])
    os.utime(path, (5_000, 5_000))
    assert last_memory(tmp_path, since=6_000) is None
    assert last_memory(tmp_path, since=4_000).step == 100
    assert last_memory(tmp_path / "none") is None
