import json
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from deblurkit.analysis.readers import logs_of_run, read_all
from deblurkit.analysis.report import analyze
from deblurkit.analysis.runs import merged
from deblurkit.memory.containers import Container, large_containers
from deblurkit.memory.leaks import Owner
from deblurkit.memory.limits import Resource
from deblurkit.memory.monitor import CudaMemory, MemoryLook, MemoryMonitor, ProcessMemory
from deblurkit.render.analysis_page.scalar_figures import scalar_figures
from deblurkit.training import run
from deblurkit.training.distributed import ALONE, Ranks
from deblurkit.training.memory_watch import MemoryWatch

MIB, GIB = 2**20, 2**30
MAIN, FIRST, SECOND = Owner("main", 42), Owner("worker", 51, 0), Owner("worker", 52, 1)
CUDA = Owner("cuda", 42)


class Told:
    """Notes what a watch tells, and gives it advice."""

    def __init__(self, dataset=None):
        self.notes, self.warnings, self.asked, self.dataset = [], [], [], dataset

    def note(self, kind, content, *, line=""):
        self.notes.append((kind, json.loads(json.dumps(content)), line))

    def of(self, kind):
        return [content for found, content, _ in self.notes if found == kind]

    def for_host(self):
        self.asked.append("host")
        return ["--set DATALOADER.TRAIN_WORKERS=2"]

    def for_gpu(self):
        self.asked.append("gpu")
        return ["--set TRAIN.BATCH_SIZE=1"]

    def containers(self):
        self.asked.append("containers")
        return large_containers(self.dataset, name="dataset") if self.dataset else [Container("a", "list", 9)]


class Monitor:
    """Memory by formulas of the step, in MiB; ``unshared`` is USS, PSS is as anonymous memory."""

    def __init__(self, sizes, *, unshared=None, left=lambda step: 500, gpu_left=None, pss=None):
        self.sizes, self.unshared, self.left, self.gpu_left = sizes, unshared or {}, left, gpu_left
        self.pss, self.step, self.looks = pss, 0, 0

    def _size(self, owner):
        return round(self.sizes[owner](self.step) * MIB)

    def anonymous(self):
        return {owner: self._size(owner) for owner in self.sizes}

    def look(self):
        self.looks += 1
        processes = [self._process(owner) for owner in self.sizes if owner.kind != "cuda"]
        left = round(self.left(self.step) * MIB)
        ram = Resource("ram", "RAM", 1000 * MIB, None, left, Path("/proc/meminfo"), "")
        cuda = None
        if self.gpu_left is not None:
            free = round(self.gpu_left(self.step) * MIB)
            cuda = CudaMemory("cuda:0", MIB, 2 * MIB, 3 * MIB, free, 1000 * MIB)
        return MemoryLook(tuple(processes), (ram,), None, cuda)

    def _process(self, owner):
        size = self._size(owner)
        pss = size if self.pss is None else round(self.pss(self.step) * MIB)
        unshared = self.unshared.get(owner)
        uss = size if unshared is None else round(unshared(self.step) * MIB)
        return ProcessMemory(owner, size, pss, uss)


class Clock:
    """A clock on which a look takes a fifth of a second, and a step as long as is said."""

    def __init__(self, seconds_a_step):
        self.now, self.step = 0.0, seconds_a_step

    def __call__(self):
        self.now += 0.1
        return self.now


def watched(monitor, *, steps, every=100, first=1, seconds_a_step=1.0, told=None, ranks=ALONE):
    told, clock = told or Told(), Clock(seconds_a_step)
    watch = MemoryWatch(
        every,
        monitor=monitor,
        notes=told,
        warn=told.warnings.append,
        advice=told,
        ranks=ranks,
        clock=clock,
    )
    watch.begin()
    for step in range(first, first + steps):
        monitor.step = step
        clock.now += seconds_a_step
        watch.after_step(step)
    return told


def test_a_line_is_written_first_and_every_so_many_steps():
    told = watched(Monitor({MAIN: lambda step: 300, FIRST: lambda step: 50}), steps=35, every=10, first=101)
    assert [row["step"] for row in told.of("memory")] == [None, 110, 120, 130]
    assert [len(row["processes"]) for row in told.of("memory")] == [2] * 4
    line = told.notes[1][2]
    assert line.startswith("[Step 110] Memory - Process: 367.0MB (35.0%), System: 0.5/1.0GB (50.0%) | ")
    assert told.warnings == []


def test_a_leak_of_a_mebibyte_a_step_is_named_within_100_steps_and_once():
    rng = np.random.default_rng(3)
    told = watched(Monitor({MAIN: lambda s: 600 + s + rng.normal(0, 2), FIRST: lambda s: 80}), steps=300)
    (text,) = told.warnings
    assert text.startswith("memory of the main process (process 42) grows by ")
    assert "What is left of RAM, 500.0 MiB, lasts" in text
    (row,) = told.of("memory_warning")
    assert row["step"] <= 100
    assert (row["about"], row["role"], row["pid"], row["text"]) == ("leak", "main", 42, text)
    assert row["bytes_per_step"] == pytest.approx(MIB, rel=0.15)
    (line,) = [line for kind, _, line in told.notes if kind == "memory_warning"]
    assert line == f"[Step {row['step']}] WARNING: {text}"


def test_the_worker_that_leaks_is_named():
    told = watched(Monitor({MAIN: lambda s: 600, FIRST: lambda s: 80, SECOND: lambda s: 80 + s}), steps=100)
    (text,) = told.warnings
    assert text.startswith("memory of loader worker 1 (process 52) grows by 1.0 MiB a step: ")
    assert "its dataset keeps something from sample to sample" in text


def test_workers_that_leak_alike_are_one_warning():
    told = watched(Monitor({MAIN: lambda s: 600, FIRST: lambda s: s, SECOND: lambda s: 2 * s}), steps=200)
    (text,) = told.warnings
    assert text.startswith(
        "memory of loader worker 1 (process 52) grows by 2.0 MiB a step, and so does that of 1 other: "
    )


def test_growth_that_pss_does_not_show_is_no_leak():
    """A counter of the kernel that is off, or pages that went to swap and are PSS no more."""
    sizes = {MAIN: lambda step: 600 + step}
    assert watched(Monitor(sizes, pss=lambda step: 600), steps=300).warnings == []
    assert len(watched(Monitor(sizes, pss=lambda step: 300 + 0.7 * step), steps=300).warnings) == 1


def test_memory_that_pytorch_reserves_again_and_again_is_named():
    sizes = {MAIN: lambda step: 600, CUDA: lambda step: 20 * (step // 10)}
    told = watched(Monitor(sizes, gpu_left=lambda step: 700), steps=100)
    (text,) = told.warnings
    assert text.startswith("PyTorch's memory on the GPU grows by 2.0 MiB a step: ")
    assert "What is left of cuda:0, 700.0 MiB, lasts 350 steps more" in text


def test_a_healthy_run_of_300_steps_gives_no_warning():
    rng = np.random.default_rng(5)

    def warms_up(step):
        return 600 + 300 * (1 - np.exp(-step / 20)) + rng.normal(0, 10) + 200 * (step > 150)

    def fills(step):
        return 80 + min(60, 2 * step) + rng.normal(0, 1)

    unshared = {FIRST: lambda step: 20 + 70 * (1 - np.exp(-step / 40))}  # copies what it uses, and no more
    sizes = {MAIN: warms_up, FIRST: fills, CUDA: lambda step: min(900, 90 * step)}
    told = watched(Monitor(sizes, unshared=unshared, gpu_left=lambda step: 300), steps=300, seconds_a_step=99)
    assert told.warnings == []


def test_copies_on_write_are_told_apart_from_leaks_and_containers_named():
    """A worker's own part grows, its memory does not: it copies pages of the main process."""
    monitor = Monitor(
        {MAIN: lambda s: 600, FIRST: lambda s: 550, SECOND: lambda s: 551},
        unshared={FIRST: lambda s: 10 + 0.9 * s, SECOND: lambda s: 10 + s},
    )
    told = watched(monitor, steps=200, seconds_a_step=60)
    (text,) = told.warnings
    assert text.startswith("loader worker 1 (process 52) and 1 other copy what they share with the main")
    assert "keep as arrays: a, a list of 9 objects" in text
    (row,) = told.of("memory_warning")
    assert (row["about"], row["pid"]) == ("copies", 52)
    assert told.asked == ["containers"]


def test_looks_between_lines_take_a_thousandth_of_the_time_at_most():
    """A look takes a tenth of a second on this clock: 100 s have to pass until the next one."""
    quick, slow = Monitor({MAIN: lambda s: 1}), Monitor({MAIN: lambda s: 1})
    watched(quick, steps=1000, every=1000, seconds_a_step=0.5)
    assert 1000 * 0.5 / 100 <= quick.looks <= 1000 * 0.5 / 100 + 3
    watched(slow, steps=1000, every=1000, seconds_a_step=100.0)
    assert slow.looks == 1000 / 5 - 3 + 1  # at every fifth step, the warm-up's aside; and the first line


def test_a_machine_that_is_nearly_full_is_warned_of_once_with_settings():
    monitor = Monitor({MAIN: lambda s: 600, FIRST: lambda s: 80}, left=lambda step: 200 if step < 30 else 88)
    told = watched(monitor, steps=60, every=10)
    (text,) = told.warnings
    assert text.startswith("System memory usage is critically high (91.2%)! 88.0 MiB of 1000.0 MiB are left")
    assert "1 worker hold 680.0 MiB" in text and "others'" not in text
    assert text.endswith("What frees memory: --set DATALOADER.TRAIN_WORKERS=2")
    (row,) = told.of("memory_warning")
    assert (row["about"], row["step"], row["share"]) == ("host", 30, pytest.approx(0.912))
    assert told.asked == ["host"]


def test_a_machine_that_others_fill_is_said_to_be_so_before_the_first_step():
    told = watched(Monitor({MAIN: lambda s: 100}, left=lambda step: 50), steps=1)
    (text,) = told.warnings
    assert "most of it is others'" in text
    assert told.notes[0][2].startswith("WARNING: System memory usage")


def test_of_the_ranks_of_a_machine_the_first_warns_of_it_and_all_write_it_down():
    told = [
        watched(Monitor({MAIN: lambda s: 100}, left=lambda s: 50), steps=10, ranks=Ranks(2 + at, 4, at, 2))
        for at in range(2)
    ]
    assert [len(each.warnings) for each in told] == [1, 0]
    assert "2 ranks about 200.0 MiB" in told[0].warnings[0]
    assert [len(each.of("memory_warning")) for each in told] == [1, 1]


def test_a_gpu_that_is_nearly_full_is_warned_of():
    told = watched(Monitor({MAIN: lambda s: 100}, gpu_left=lambda step: 90), steps=1)
    (text,) = told.warnings
    assert text.startswith("memory of cuda:0 is used to 91.0 %: 90.0 MiB of 1000.0 MiB are left; PyTorch has")
    assert text.endswith("--set TRAIN.BATCH_SIZE=1")


def fresh(count):
    """Return memory of its own, all written to: an allocator would give what earlier tests have freed."""
    memory = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, count, mmap.PAGESIZE):
        memory[at] = 1
    return memory


def test_a_leak_planted_in_this_process_is_named():
    """Real memory, read from the kernel: a MiB a step is kept."""
    told, own = Told(), Owner("main", os.getpid())
    monitor = MemoryMonitor(own, workers=lambda: ())
    watch = MemoryWatch(100, monitor=monitor, notes=told, warn=told.warnings.append, advice=told)
    kept = []
    for step in range(1, 101):
        kept.append(fresh(MIB))
        watch.after_step(step)
    leaks = [row for row in told.of("memory_warning") if row["about"] == "leak"]
    assert [(row["role"], row["pid"]) for row in leaks] == [("main", os.getpid())]
    assert leaks[0]["bytes_per_step"] == pytest.approx(MIB, rel=0.1)


class Keeping(Dataset):
    """Samples of which one worker keeps a MiB each."""

    def __init__(self, number):
        self.number, self.kept = number, []

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        from torch.utils.data import get_worker_info

        if get_worker_info().id == self.number:
            self.kept.append(fresh(2 * MIB))
        return index


def stepped(dataset, *, steps, told, seconds_a_step=0.0):
    """Take steps with two real workers, as a run does; a fake clock lets looks be taken at any time."""
    clock, own = Clock(seconds_a_step), Owner("main", os.getpid())
    batches = iter(DataLoader(dataset, batch_size=1, num_workers=2, prefetch_factor=1))
    next(batches)  # starts the workers
    watch = MemoryWatch(
        100, monitor=MemoryMonitor(own), notes=told, warn=told.warnings.append, advice=told, clock=clock
    )
    for step in range(1, steps + 1):
        clock.now += seconds_a_step
        next(batches)
        watch.after_step(step)


def test_a_list_that_grows_in_a_worker_is_named_as_that_workers():
    """Every other sample is its: 2 MiB each of them, so 1 MiB a step."""
    told = Told()
    stepped(Keeping(1), steps=100, told=told)
    (row,) = [row for row in told.of("memory_warning") if row["about"] == "leak"]
    assert (row["role"], row["number"], row["step"] <= 100) == ("worker", 1, True)
    assert row["bytes_per_step"] == pytest.approx(MIB, rel=0.25)
    assert row["pid"] != os.getpid()


class Listed(Dataset):
    """Samples whose places are numbers of Python in a list; each reads some thousand of them."""

    def __init__(self, count, steps):
        self.numbers = [float(number) for number in range(count)]
        self.step = count // steps

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        start = (index // 2) * 2 * self.step
        return sum(self.numbers[start : start + 2 * self.step])


def test_python_objects_that_workers_copy_are_named():
    """6 million floats of 24 bytes: their counts of references are written to as they are read."""
    dataset, told = Listed(6_000_000, 200), Told()
    told.dataset = dataset
    stepped(dataset, steps=180, told=told, seconds_a_step=1000.0)
    rows = [row for row in told.of("memory_warning") if row["about"] != "host"]
    assert [row["about"] for row in rows] == ["copies"]
    assert "dataset.numbers, a list of 6,000,000 objects" in rows[0]["text"]


def test_a_run_writes_looks_that_analyze_log_reads(tiny_config, Watcher):
    watcher = Watcher()
    config = tiny_config("TRAIN.MAX_STEPS=30", "LOG.MEMORY_EVERY_STEPS=10", "DATALOADER.TRAIN_WORKERS=1")
    run.train(config, observer=watcher)
    (log,) = merged(read_all(logs_of_run(config.log.save_dir)))
    frame = log.scalars["process_memory_bytes"]
    assert frame["step"].tolist() == [0, 10, 20, 30]
    parts = log.scalars["process_memory_bytes/main"], log.scalars["process_memory_bytes/workers"]
    assert parts[0]["value"].tolist()[-1] > 100 * MIB
    assert parts[1]["step"].tolist()[:2] == [10, 20]  # at the end it has nothing to load any more
    assert log.damaged_lines == 0
    assert "process_memory_bytes" in analyze(log).scalars.index
    drawn = {figure.title: figure.data for figure in scalar_figures(log, points=100)}
    names = {trace.get("name") for trace in drawn["Memory"]}
    assert {"process memory bytes", "process memory bytes/main", "process memory bytes/workers"} <= names
    assert "Memory of the machine in use" in drawn
    (text,) = (config.log.save_dir / "logs").glob("timing_*.log")
    (train,) = (config.log.save_dir / "logs").glob("train_*.log")
    for path in (text, train):
        assert path.read_text(encoding="utf-8").count("] Memory - Process: ") == 4
    assert [text for text in watcher.warnings if "grows" in text] == []
    (part,) = json.loads((config.log.save_dir / "run.json").read_text())["parts"]
    (rank,) = part["pids"]
    assert rank["main"] == os.getpid() and len(rank["workers"]) == 1


def test_no_line_is_written_where_none_is_wanted(tiny_config, Watcher):
    config = tiny_config("LOG.MEMORY_EVERY_STEPS=0")
    run.train(config, observer=Watcher())
    for path in (config.log.save_dir / "logs").glob("t*_*"):
        text = path.read_text(encoding="utf-8")
        assert "Memory - " not in text and '"memory":' not in text
