import mmap
import multiprocessing
import os

import psutil
import pytest

from deblurkit.memory.leaks import Owner
from deblurkit.memory.monitor import CudaMemory, MemoryMonitor, own_workers

MIB, GIB = 2**20, 2**30
PAGE = os.sysconf("SC_PAGE_SIZE")
MAIN = Owner("main", 4242)
CUDA = CudaMemory("cuda:0", 3 * GIB, 4 * GIB, 5 * GIB, 20 * GIB, 48 * GIB)
ROLLUP = """55d0-7ffd ---p 00000000 00:00 0                          [rollup]
Rss:              204800 kB
Pss:              102400 kB
Pss_Dirty:         51200 kB
Private_Clean:      1024 kB
Private_Dirty:     50176 kB
Swap:               4096 kB
SwapPss:            2048 kB"""


def statm(*, resident, shared):
    """The kernel's line: pages of address space, resident, shared, text, library, data, dirty."""
    return f"900000 {resident * MIB // PAGE} {shared * MIB // PAGE} 1 0 5 0"


def files(*pids, **more):
    return {f"proc/{pid}/statm": statm(resident=200, shared=30) for pid in pids} | more


def monitor(machine, *, workers=(), **named):
    return MemoryMonitor(MAIN, workers=lambda: workers, machine=machine, **named)


def test_what_is_anonymous_is_resident_and_not_shared(machine_of):
    machine = machine_of(files(4242, 51))
    reads = monitor(machine, workers=[51], cuda_reserved=lambda: 7 * MIB)
    assert reads.anonymous() == {
        MAIN: 170 * MIB,
        Owner("worker", 51, 0): 170 * MIB,
        Owner("cuda", 4242): 7 * MIB,
    }


def test_a_worker_that_has_ended_is_left_out_and_its_successor_taken(machine_of):
    machine, workers = machine_of(files(4242, 51, 52)), [51, 52]
    reads = MemoryMonitor(MAIN, workers=lambda: list(workers), machine=machine)
    (machine.proc / "51/statm").unlink()
    workers.remove(51)
    assert reads.anonymous().keys() == {MAIN, Owner("worker", 52, 1)}
    assert reads.anonymous().keys() == {MAIN, Owner("worker", 52, 0)}


def test_a_look_has_the_kernels_figures(machine_of):
    meminfo = "MemTotal: 1048576 kB\nMemFree: 1024 kB\nMemAvailable: 262144 kB"
    machine = machine_of(
        files(4242, 51, **{"proc/4242/smaps_rollup": ROLLUP, "proc/meminfo": meminfo}),
        shm=(64 * MIB, 60 * MIB),
    )
    look = monitor(machine, workers=[51], cuda=lambda: CUDA, cache_bytes=lambda: 12).look()
    own, worker = look.processes
    assert (own.rss_bytes, own.pss_bytes, own.uss_bytes) == (200 * MIB, 102 * MIB, 50 * MIB)
    assert (worker.owner, worker.rss_bytes) == (Owner("worker", 51, 0), 200 * MIB)
    assert (worker.pss_bytes, worker.uss_bytes, worker.held_bytes) == (None, None, 200 * MIB)
    assert (look.own, look.workers, look.held_bytes) == (own, (worker,), 302 * MIB)
    assert (look.tightest.name, look.tightest.available_bytes) == ("RAM", 256 * MIB)
    assert look.shm.available_bytes == 60 * MIB
    assert (look.cache_bytes, look.cuda) == (12, CUDA)


def test_a_machine_that_tells_nothing_gives_an_empty_look(machine_of):
    look = monitor(machine_of(), workers=[51]).look()
    assert (look.processes, look.tightest, look.cuda, look.held_bytes) == ((), None, None, 0)


def test_this_process_is_seen_as_psutil_sees_it():
    own = Owner("main", os.getpid())
    reads = MemoryMonitor(own, workers=lambda: ())
    (process,) = reads.look().processes
    full = psutil.Process().memory_full_info()
    assert process.rss_bytes == pytest.approx(full.rss, rel=0.05)
    assert process.pss_bytes == pytest.approx(full.pss + full.swap, rel=0.05)
    assert process.uss_bytes == pytest.approx(full.uss, rel=0.05)
    before = reads.anonymous()[own]
    held = mmap.mmap(-1, 50 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # not what was freed before
    for at in range(0, len(held), mmap.PAGESIZE):
        held[at] = 1
    assert reads.anonymous()[own] - before == pytest.approx(len(held), rel=0.1)


def test_own_workers_are_those_started_here():
    context = multiprocessing.get_context("fork")
    done = context.Event()
    started = [context.Process(target=done.wait) for _ in range(2)]
    try:
        for process in started:
            process.start()
        assert {process.pid for process in started} <= set(own_workers())
    finally:
        done.set()
        for process in started:
            process.join()
    assert not {process.pid for process in started} & set(own_workers())
