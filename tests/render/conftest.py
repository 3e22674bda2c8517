"""What several reports are of: a server of three A6000 that others use too, as it was recorded."""

from pathlib import Path

import pytest

from deblurkit.memory.gpu import GpuLook, GpuState, Holder
from deblurkit.memory.limits import Resource
from deblurkit.memory.look import Look
from deblurkit.memory.pressure import OomCount, Pressure, Stall
from deblurkit.memory.processes import Holders, Process, Tree, UserMemory, group_of
from deblurkit.memory.remains import Remain

GIB, MIB = 2**30, 2**20


def a6000(index, holders=(), *, ecc=(None, None), slowed_by=(), unseen=()):
    used = sum(holder.bytes or 0 for holder in holders) + GIB // 2
    return GpuState(
        index=index,
        uuid=f"GPU-{index}",
        name="NVIDIA RTX A6000",
        total_bytes=48 * GIB,
        used_bytes=used,
        free_bytes=48 * GIB - used,
        busy_percent=97.0,
        temperature_celsius=81.0,
        ecc_errors=ecc[0],
        ecc_errors_ever=ecc[1],
        slowed_by=slowed_by,
        holders=tuple(holders),
        unseen=unseen,
    )


def process(pid, name, user, rss, *, pss=None, role_rank=None):
    uss = None if pss is None else pss * MIB // 2
    pss = None if pss is None else pss * MIB
    return Process(pid, 1, 1000, user, name, (name,), 0.0, rss * MIB, pss, uss, rank=role_rank)


GPUS = GpuLook(
    (
        a6000(0, [Holder(4242, "王小明", 40 * GIB)], slowed_by=("power limit",)),
        a6000(1, [Holder(77, "李娜", 20 * GIB), Holder(999, None, None)], ecc=(3, 5), unseen=("hidden",)),
        a6000(2),
    )
)


@pytest.fixture
def gpus():
    """Three A6000: one full of another user's, one half so, one free."""
    return GPUS


@pytest.fixture
def server():
    """A look at a server that is full, with runs of one's own, Chinese names, and remains of the dead."""
    ranks = [process(10 + rank, "deblurkit", "alice", 3000, pss=2000, role_rank=rank) for rank in (0, 1)]
    workers = [process(20 + n, "pt_data_worker", "alice", 900, pss=300, role_rank=0) for n in range(4)]
    launcher = process(9, "deblurkit train", "alice", 200, pss=100)
    groups = (
        group_of("launcher", None, [launcher]),
        group_of("rank", 0, ranks[:1]),
        group_of("worker", 0, workers),
        group_of("rank", 1, ranks[1:]),
    )
    total = group_of("launcher", None, [launcher, *ranks, *workers])
    limits = (
        Resource("ram", "RAM", 64 * GIB, 50 * GIB, 20 * GIB, Path("/proc/meminfo"), "the largest is killed"),
        Resource("ulimit", "ulimit -v", None, 1, None, Path("/proc/self/limits"), "no limit is set", "each"),
        Resource(
            "cgroup",
            "cgroup memory.max",
            16 * GIB,
            6 * GIB,
            12 * GIB,
            Path("/sys/fs/cgroup/slurm/job_7/memory.max"),
            "the kernel kills a process of the group",
        ),
        Resource("shm", "/dev/shm", GIB, GIB - 64 * MIB, 64 * MIB, Path("/dev/shm"), "a bus error"),
    )
    return Look(
        at=1_700_000_000.0,
        hostname="gpu01",
        user="alice",
        limits=limits,
        pressure=(
            Pressure(
                Path("/proc/pressure/memory"), Stall(0.125, 0.05, 0.01, 9.0), Stall(0.02, 0.0, 0.0, 1.0)
            ),
        ),
        oom_counts=(OomCount(Path("/proc/vmstat"), True, 2, None),),
        gpus=GPUS,
        holders=Holders(
            (UserMemory("王小明", 12, 30 * GIB), UserMemory("alice", 7, 12 * GIB)),
            (process(4242, "训练.py", "王小明", 28_000), ranks[0]),
            3,
        ),
        trees=(Tree(launcher, groups, total),),
        remains=(
            Remain(
                Path("/dev/shm/torch_5_ab"),
                "tensor shared by PyTorch",
                "alice",
                GIB // 2,
                "dead",
                "5 is gone",
            ),
            Remain(Path("/dev/shm/<b>x"), "file", "李娜", 4096, "unknown", "another user's"),
        ),
        unseen=("this is a container: processes outside it are not seen, their memory is",),
    )


@pytest.fixture
def bare():
    """A look from a small container without root, driver or PSI."""
    return Look(
        at=1_700_000_000.0,
        hostname="box",
        user="root",
        limits=(
            Resource("ram", "RAM", 2 * GIB, GIB, GIB, Path("/proc/meminfo"), "killed"),
            Resource(
                "shm", "/dev/shm", None, None, None, Path("/dev/shm"), "a bus error", "cannot be looked at"
            ),
        ),
        pressure=(),
        oom_counts=(),
        gpus=GpuLook((), ("NVIDIA's driver does not answer: NVML Shared Library Not Found",)),
        holders=Holders((), (), 0),
        trees=(),
        unseen=("/dev/shm: cannot be looked at",),
    )


@pytest.fixture
def run(server):
    """What a run would take: too much of GPU 0, little else."""
    from deblurkit.tuning.host_memory import HostMemory
    from deblurkit.tuning.host_rows import HostRow
    from deblurkit.tuning.memory_changes import Change
    from deblurkit.tuning.overheads import MemoryRow
    from deblurkit.tuning.run_memory import DataSize, RunMemory
    from deblurkit.tuning.step_memory import StepMemory
    from deblurkit.tuning.verdicts import judge

    rows = (
        MemoryRow("activations: VRT处理/<b>Stage1", 16 * GIB, "shapes"),
        MemoryRow("optimiser states", 4 * GIB, "shapes"),
        MemoryRow("inputs", 2 * MIB, "shapes"),
    )
    step = StepMemory(
        "cuda",
        "fake tensors, from CPU shapes",
        (1, 5, 3, 256, 256),
        rows,
        rows[:1],
        {"forward": 16 * GIB, "backward": 20 * GIB + 2 * MIB},
        (MemoryRow("CUDA context", GIB, "assumed"), MemoryRow("cuDNN workspaces", None, "by cuDNN")),
    )
    host = HostMemory(
        (
            HostRow("interpreter of a rank", GIB, 1, "private", "measured"),
            HostRow("node cache", 4 * GIB, 1, "shared memory", "DATA.CACHE_SIZE_GB"),
            HostRow("packed dataset", 30 * GIB, 1, "page cache", "one copy"),
        ),
        1,
        4,
    )
    changes = (
        Change(("TRAIN.BATCH_SIZE=1", "X=[1, 2]"), 9 * GIB, "device", "twice the launches", True),
        Change(("TRAIN.AMP_ENABLED=true",), 8 * GIB, "device", "fewer digits", False),
    )
    return RunMemory(
        title="vrt, clips 1 x 5 x 3 x 256 x 256, 1 process",
        step=step,
        host=host,
        data=DataSize(None, None),
        verdicts=tuple(judge(step, host, limits=server.limits, gpus=server.gpus.gpus[:1])),
        resource="device",
        changes=changes,
        notes=("GPU 2 has 47.50 GiB free",),
    )


@pytest.fixture
def past():
    """A run that the kernel has killed."""
    from deblurkit.memory.aftermath import Aftermath, Cause, RunEnd
    from deblurkit.tuning.memory_report import PastRun

    end = RunEnd("killed", None, 1_699_999_000.0, None, "gpu01", 4711, ("内存 warning: 95 %\x1b[2J",))
    cause = Cause("cgroup-limit", "certain", "the control group /job was at its limit", "/dev/kmsg")
    return PastRun(Path("outputs/vrt"), Aftermath(end, (cause,), ("dmesg: root sees it",)))
