from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Group

from deblurkit.memory.gpu import RecordedGpus, record
from deblurkit.render.memory import WIDTH
from deblurkit.render.memory_machine import gpu_sections, group_name, machine_sections
from deblurkit.render.text import as_text


def shown(parts):
    return as_text(Group(*parts), width=WIDTH)


def line_with(text, *words):
    (found,) = [line for line in text.splitlines() if all(word in line for word in words)]
    return found


def test_limits_say_what_is_there_and_what_happens_beyond(server):
    text = shown(machine_sections(server))
    ram = line_with(text, "RAM", "killed")
    assert ram.split()[1:7] == ["64.00", "GiB", "50.00", "GiB", "20.00", "GiB"]
    assert "cgroup memory.max of /slurm/job_7" in text
    assert "No limit is set: ulimit -v." in text
    assert "machine: tasks waited for memory 12.5 % of 10 s, 5.0 % of 60 s, 1.0 % of 5 min" in text
    assert "machine: 2 processes killed for want of memory since it is up" in text


def test_no_kills_are_one_line(server):
    counts = [replace(count, kills=0) for count in server.oom_counts]
    text = shown(machine_sections(replace(server, oom_counts=tuple(counts))))
    assert "  no process was killed for want of memory since it is up\n" in text


def test_three_recorded_gpus_with_other_users_processes(gpus, tmp_path):
    record(tmp_path / "gpus.jsonl", [gpus])
    text = shown(gpu_sections(RecordedGpus.read(tmp_path / "gpus.jsonl").look()))
    assert line_with(text, "0  NVIDIA RTX A6000").split()[4:] == [
        *("48.00", "GiB", "40.50", "GiB", "7.50", "GiB", "97", "%", "81")
    ]
    assert line_with(text, "王小明, process 4242").split()[-2:] == ["40.00", "GiB"]
    assert line_with(text, "unknown, process 999").split()[-1] == "-"
    assert "driver, and who is not seen" in text
    assert "GPU 1: 3 uncorrected memory errors since boot, 5 since it was made" in text
    assert "GPU 0: its clocks are kept down by power limit" in text
    ends = {cell_len(line[: line.index("GiB") + 3]) for line in text.splitlines() if "A6000" in line}
    names = ("王小明, ", "李娜, ")
    used = {cell_len(line_with(text, name)[: line_with(text, name).index("GiB") + 3]) for name in names}
    assert len(ends) == len(used) == 1


def test_without_a_driver_it_says_so_and_goes_on(bare):
    text = shown(machine_sections(bare))
    assert "GPUs: none is seen (NVIDIA's driver does not answer: NVML Shared Library Not Found)" in text
    assert "PSI) this kernel does not tell" in text
    assert line_with(text, "/dev/shm", "a bus error").split()[1:4] == ["-", "-", "-"]
    assert "In shared memory" not in text


def test_holders_runs_and_their_groups(server):
    text = shown(machine_sections(server))
    assert line_with(text, "王小明", "12").split() == ["王小明", "12", "30.00", "GiB"]
    assert line_with(text, "训练.py").split()[1:] == ["4242", "27.34", "GiB", "-", "-", "-", "王小明"]
    assert "deblurkit train (process 9)" in text
    assert line_with(text, "loader workers of rank 0").split()[5:9] == ["4", "3.52", "GiB", "1.17"]
    assert line_with(text, "together").split()[1] == "7"


def test_what_the_dead_have_left_comes_with_its_removal(server):
    text = shown(machine_sections(server))
    assert "  rm -r -- /dev/shm/torch_5_ab\n" in text
    assert "dead: 5 is gone" in text and "unknown: another user's" in text
    assert text.count("rm -r") == 1


def test_what_is_not_seen_is_said(server):
    assert "Not seen\n  this is a container: processes outside it" in shown(machine_sections(server))


@pytest.mark.parametrize("width", [80, 110])
def test_no_line_is_too_long(server, width):
    text = as_text(Group(*machine_sections(server)), width=width)
    assert max(map(cell_len, text.splitlines())) <= width


def test_groups_are_named_by_what_they_are(server):
    names = [group_name(group) for group in server.trees[0].groups]
    assert names == ["launcher", "rank 0", "loader workers of rank 0", "rank 1"]
