"""A run's memory as it might be predicted, in round figures, and limits of a machine."""

from pathlib import Path

import pytest

from deblurkit.memory.gpu import GpuState, Holder
from deblurkit.memory.limits import Resource
from deblurkit.tuning.host_memory import HostMemory
from deblurkit.tuning.host_rows import HostRow
from deblurkit.tuning.overheads import MemoryRow
from deblurkit.tuning.step_memory import FROM_CPU_SHAPES, StepMemory

GIB = 2**30


@pytest.fixture
def step_of():
    """Return a function that makes the memory of a step of 20 GiB, and 1 GiB of overheads on a GPU."""

    def make(kind="cuda", *, gib=20):
        rows = (
            MemoryRow("activations: VRT/Stage1", (gib - 4) * GIB, FROM_CPU_SHAPES),
            MemoryRow("optimiser states", 4 * GIB, FROM_CPU_SHAPES),
        )
        extra = (MemoryRow("CUDA context", GIB, "assumed"), MemoryRow("cuDNN workspaces", None, "by cuDNN"))
        phases = {"forward": (gib - 1) * GIB, "backward": gib * GIB}
        overheads = extra if kind == "cuda" else ()
        return StepMemory(kind, FROM_CPU_SHAPES, (1, 5, 3, 256, 256), rows, rows[:1], phases, overheads)

    return make


@pytest.fixture
def host_of():
    """Return a function that makes the memory of all processes: 1 GiB a rank, 2 shared, 5 of page cache."""

    def make(*, ranks=1, shared=2):
        rows = (
            HostRow("interpreter of a rank", GIB, ranks, "private", "measured"),
            HostRow("training batches", shared * GIB, 1, "shared memory", "ready"),
            HostRow("packed dataset", 5 * GIB, 1, "page cache", "one copy"),
        )
        return HostMemory(rows, ranks, 2)

    return make


@pytest.fixture
def limit_of():
    """Return a function that makes a limit."""

    def make(
        kind, available, *, name=None, limit=64, source="/proc/meminfo", beyond="it is killed", unseen=""
    ):
        size = None if limit is None else limit * GIB
        there = None if available is None else int(available * GIB)
        used = None if there is None or size is None else size - there
        return Resource(kind, name or kind, size, used, there, Path(source), beyond, unseen)

    return make


@pytest.fixture
def gpu_of():
    """Return a function that makes an A6000 of which others hold a part."""

    def make(index, free, *, user="王小明"):
        there = None if free is None else int(free * GIB)
        used = None if there is None else 48 * GIB - there
        holders = (Holder(100 + index, user, used),) if used else ()
        return GpuState(
            index=index,
            uuid=f"GPU-{index}abc",
            name="NVIDIA RTX A6000",
            total_bytes=None if there is None else 48 * GIB,
            used_bytes=used,
            free_bytes=there,
            busy_percent=50.0,
            temperature_celsius=60.0,
            ecc_errors=None,
            ecc_errors_ever=None,
            slowed_by=(),
            holders=holders,
        )

    return make
