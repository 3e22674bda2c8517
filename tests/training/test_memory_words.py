from pathlib import Path

import pytest

from deblurkit.analysis.formats.log_events import kind_of
from deblurkit.analysis.formats.log_figures import figures_of
from deblurkit.memory.containers import Container
from deblurkit.memory.leaks import Growth, Owner, Slope
from deblurkit.memory.limits import Resource
from deblurkit.memory.monitor import CudaMemory, MemoryLook, ProcessMemory
from deblurkit.training.memory_words import copies_text, gpu_text, host_text, leak_text

MIB, GIB = 2**20, 2**30
MAIN = Owner("main", 42)
CUDA = CudaMemory("cuda:0", GIB, 2 * GIB, 3 * GIB, 100 * MIB, 4 * GIB)


def look(*, left=10 * GIB, cuda=None):
    ram = Resource("cgroup", "cgroup memory.max", 100 * GIB, None, left, Path("/sys/x"), "")
    limits = () if left is None else (ram,)
    return MemoryLook((ProcessMemory(MAIN, GIB, GIB, GIB),), limits, cuda=cuda)


def growth(owner=MAIN, per_step=2 * MIB):
    return Growth(owner, Slope(per_step, per_step, per_step), 1000, 1200, GIB, 3 * GIB // 2)


def test_a_leak_says_how_fast_how_far_why_and_how_long():
    """10 GiB at 2 MiB a step are 5,120 steps."""
    text = leak_text(growth(), look())
    assert text.startswith(
        "memory of the main process (process 42) grows by 2.0 MiB a step: 1.00 GiB around step 1,000,"
        " 1.50 GiB around step 1,200, and it does not level off; something is kept from step to step"
    )
    assert text.endswith("What is left of cgroup memory.max, 10.00 GiB, lasts 5,120 steps more")


def test_processes_that_leak_alike_use_up_what_is_left_together():
    text = leak_text(growth(Owner("worker", 51, 0)), look(), alike=3)
    assert "a step, and so does that of 3 others: " in text
    assert text.endswith("lasts 1,280 steps more")


def test_a_leak_on_the_gpu_is_measured_by_the_gpu():
    text = leak_text(growth(Owner("cuda", 42)), look(cuda=CUDA))
    assert text.endswith("What is left of cuda:0, 100.0 MiB, lasts 50 steps more")


def test_where_nothing_is_known_of_what_is_left_nothing_is_said():
    assert "left" not in leak_text(growth(), look(left=None))


@pytest.mark.parametrize(
    ("containers", "advice"),
    [
        ([], "no large list or dict was found in the dataset"),
        ([Container("clips.files", "dict", 20_000)], "keep as arrays: clips.files, a dict of 20,000 objects"),
    ],
)
def test_copies_name_what_to_change(containers, advice):
    text = copies_text([growth(Owner("worker", 51, 0))], containers)
    assert text.startswith("loader worker 0 (process 51) copies what it shares with") and advice in text


@pytest.mark.parametrize(
    ("ranks", "cache", "expected"),
    [
        (1, None, " hold 20.00 GiB; most of it is others', whom"),
        (2, None, " hold 20.00 GiB, 2 ranks about 40.00 GiB; most of it is others', whom"),
        (3, None, " hold 20.00 GiB, 3 ranks about 60.00 GiB."),
        (2, 10 * GIB, " hold 20.00 GiB, 2 ranks about 40.00 GiB, the run's cache 10.00 GiB."),
        (1, 30 * GIB, " hold 20.00 GiB, the run's cache 30.00 GiB."),
    ],
)
def test_what_all_ranks_and_the_cache_hold_is_the_runs_own(ranks, cache, expected):
    """Of 90 GiB that are in use, half is 45."""
    worker = ProcessMemory(Owner("worker", 51, 0), 15 * GIB, 15 * GIB, GIB)
    main = ProcessMemory(MAIN, 9 * GIB, 5 * GIB, GIB)
    seen = MemoryLook((main, worker), look().limits, cache_bytes=cache)
    text = host_text(seen.limits[0], 0.9, seen, [], ranks=ranks)
    assert f"; this process and its 1 worker{expected}" in text


def test_ranks_that_leak_alike_use_up_what_is_left_of_the_machine_and_not_of_a_gpu():
    text = leak_text(growth(Owner("worker", 51, 0)), look(), alike=3, ranks=4)
    assert text.endswith("lasts 320 steps more if all 4 ranks here grow so")
    text = leak_text(growth(Owner("cuda", 42)), look(cuda=CUDA), ranks=4)
    assert text.endswith("What is left of cuda:0, 100.0 MiB, lasts 50 steps more")


def test_a_full_machine_is_an_event_for_readers_of_logs():
    line = f"[Step 5] WARNING: {host_text(look().limits[0], 0.912, look(), ['--set A=1'])}".encode()
    assert kind_of(line) == "memory-warning"
    (figure,) = figures_of(line)
    assert (figure.name, figure.value) == ("host_memory_share", pytest.approx(0.912))


def test_a_full_gpu_is_an_event_and_no_figure_of_the_machine():
    line = f"[Step 5] WARNING: {gpu_text(CUDA, 0.912, [])}".encode()
    assert kind_of(line) == "memory-warning"
    assert list(figures_of(line)) == []


def test_leaks_are_no_event_of_a_full_machine():
    assert kind_of(f"[Step 5] WARNING: {leak_text(growth(), look())}".encode()) is None
