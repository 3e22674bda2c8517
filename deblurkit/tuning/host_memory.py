"""What a run will hold of its machine's memory, all processes together, told from its configuration.

A page that processes share counts once, as it does in a sum of PSS: ranks share the code of the libraries,
and what a forked worker has of its parent counts only where one of the two has written on it since. Memory
that batches wait in is that of /dev/shm, whether a process has it mapped or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deblurkit.cache.entries import charged_bytes
from deblurkit.config.schema import Config
from deblurkit.data.batch_bytes import voxels_on_worker
from deblurkit.data.manifest import Storage
from deblurkit.data.workers import WorkerPlan, available_cpus, plan_workers
from deblurkit.memory.tensors import PARAMETERS
from deblurkit.tuning.host_rows import MEASURED, SPIKE_FRAMES, HostData, HostKind, HostRow
from deblurkit.tuning.loader_memory import loader_rows, training_loading, validation_loading
from deblurkit.tuning.metric_memory import lpips_memory
from deblurkit.tuning.step_memory import EMA, LOSS, STATES, VALIDATION, DeviceKind, StepMemory
from deblurkit.units import GIB, MIB

__all__ = ["HostKind", "HostMemory", "HostRow", "predict_host"]

CODE, LAUNCHER, INTERPRETER = "code of Python and its libraries", "launcher", "interpreter of a rank"
CUDA, STEP, GAPS = "CUDA on the host", "tensors of a step", "beside tensors, in the heap"
METRIC, GATHERED, READ_BACK = "LPIPS of whole frames", "all shards, to be saved", "a checkpoint, read back"
CACHE, PACKED, SCORED = "node cache", "packed dataset", "frames being scored"
BEFORE_FORK, BEFORE_VALIDATION = "weights from before the workers", "a step's memory from before a validation"

# Measured with Python 3.11 and torch 2.15 for CUDA 13, on a CPU: benchmarks/results/part7_host.md.
_CODE = 360 * MIB  # mapped files: once, however many processes
_LAUNCHER = 350 * MIB
_INTERPRETER = 415 * MIB
HEAP_GAPS: Mapping[str, float] = {"vrt": 0.4, "baseline": 0.9, "convnext": 0.9}  # of the bytes of tensors
_WRITTEN = 2  # times what a validation holds at a time: the pages that it writes on, one after the other
_CUDA = GIB  # libraries, driver and its buffers, of each rank: not measured


@dataclass(frozen=True)
class HostMemory:
    """The memory of a run on its machine when it holds most.

    Attributes:
        rows: what holds it; none is empty.
        world_size: ranks on the machine.
        workers: of each rank, for training and for validation, that live at that time.
    """

    rows: tuple[HostRow, ...]
    world_size: int
    workers: int

    @property
    def needed_bytes(self) -> int:
        """What RAM, or the cgroup, has to give."""
        return sum(row.bytes for row in self.rows if row.kind != "page cache")

    @property
    def shm_bytes(self) -> int:
        """What /dev/shm has to give."""
        return self._of("shared memory")

    @property
    def pinned_bytes(self) -> int:
        """What must not be swapped out."""
        return self._of("pinned")

    @property
    def reclaimable_bytes(self) -> int:
        """What the kernel takes back where memory is short; the run is slower then."""
        return self._of("page cache")

    @property
    def code_bytes(self) -> int:
        """What of `needed_bytes` is files that are mapped: where memory is short they are read again."""
        return sum(row.bytes for row in self.rows if row.name == CODE)

    @property
    def naive_bytes(self) -> int:
        """What would be needed if every process that reads had a cache of its own, as in the seeds' sum."""
        cache = sum(row.bytes for row in self.rows if row.name == CACHE)
        return self.needed_bytes + cache * (self.world_size * max(1, self.workers) - 1)

    def _of(self, kind: HostKind) -> int:
        return sum(row.bytes for row in self.rows if row.kind == kind)


def predict_host(
    config: Config,
    *,
    world_size: int = 1,
    device_kind: DeviceKind = "cpu",
    frame_shape: tuple[int, int] | None = None,
    num_frames: int | None = None,
    step: StepMemory | None = None,
    storage: Storage = "png",
    cpus: int | None = None,
) -> HostMemory:
    """Return what a run of ``config`` will hold of its machine, at the moment when it holds most.

    What is not known is left out; what CUDA takes, and the spikes of an exposure, are assumed.

    Args:
        config: the whole configuration.
        world_size: ranks on this machine.
        device_kind: of the device that they train on; a CPU has the tensors of their steps in RAM too.
        frame_shape: rows and columns of the dataset's frames; None leaves out what holds whole frames.
        num_frames: blurry frames that are read, each with its sharp one; None: the cache fills its budget.
        step: of each rank; None leaves out the tensors of a step, on a CPU.
        storage: of the dataset.
        cpus: that the workers are shared out by; None: those of this machine.
    """
    plan = plan_workers(config.dataloader, gpus=world_size, cpus=cpus or available_cpus())
    data = HostData(frame_shape, num_frames, storage)
    return _Prediction(config, plan, data, step, device_kind=device_kind).most()


class _Prediction:
    """The rows of a run's memory."""

    def __init__(
        self,
        config: Config,
        plan: WorkerPlan,
        data: HostData,
        step: StepMemory | None,
        *,
        device_kind: DeviceKind,
    ) -> None:
        self._config, self._plan, self._data, self._step = config, plan, data, step
        self._ranks, self._on_cpu = plan.gpus, device_kind == "cpu"
        self._training = training_loading(config, plan, data, device_kind=device_kind)
        self._validation = validation_loading(config, plan, data, device_kind=device_kind)

    def most(self) -> HostMemory:
        """Return the moment in which most is needed."""
        plan, always = self._plan, [*self._processes(), *self._tensors(), *self._dataset()]
        training, validation = [*self._of_training()], [*self._of_validation()]
        moments = [self._moment([*always, *self._read_back()], 0)]
        if self._validates_meanwhile():
            moments.append(self._moment([*always, *training, *validation], plan.train + plan.val))
        else:
            moments.append(self._moment([*always, *training], plan.train))
            moments.append(self._moment([*always, *validation], plan.val))
        return max(moments, key=lambda moment: moment.needed_bytes)

    def _moment(self, rows: list[HostRow], workers: int) -> HostMemory:
        return HostMemory(tuple(row for row in rows if row.bytes > 0), self._ranks, workers)

    def _validates_meanwhile(self) -> bool:
        """Return whether a validation comes while the workers of training are there, not only at the end."""
        log, last = self._config.log, self._config.train.max_steps
        by_step = (log.val_every_steps, log.quick_val_every_steps)
        is_due = any(every and (last is None or every < last) for every in by_step)
        return is_due or log.metrics_every_epochs > 0 or log.pictures_every_epochs > 0

    def _processes(self) -> Iterator[HostRow]:
        yield HostRow(CODE, _CODE, 1, "private", f"mapped once for all processes; {MEASURED}")
        yield HostRow(LAUNCHER, _LAUNCHER, int(self._ranks > 1), "private", MEASURED)
        yield HostRow(INTERPRETER, _INTERPRETER, self._ranks, "private", MEASURED)
        if not self._on_cpu:
            yield HostRow(CUDA, _CUDA, self._ranks, "private", "assumed; 0.5 to 2 GiB by CUDA and driver")

    def _tensors(self) -> Iterator[HostRow]:
        """Yield what ranks hold of steps and validations; on a CPU they keep what these free."""
        if self._step is not None and self._on_cpu:
            is_shared = self._plan.train > 0 and voxels_on_worker(self._config.data, "cpu")
            each = max(0, self._step.peak_bytes - is_shared * self._training.batch.total)
            source = f"{self._step.source}{', but for the batch' if is_shared else ''}"
            yield HostRow(STEP, each, self._ranks, "private", source)
            source = f"{self._gaps:.0%}: oneDNN's copies, and the heap's gaps; {MEASURED}"
            yield HostRow(GAPS, int(self._gaps * each), self._ranks, "private", source)
            yield from self._metric()
        if self._config.train.parallel == "fsdp" and self._ranks > 1:
            each = self._owned(PARAMETERS, STATES)
            yield HostRow(GATHERED, each, 1, "private", "whole on rank 0 while it saves")

    def _metric(self) -> Iterator[HostRow]:
        shape = self._data.frame_shape
        if self._config.log.metrics_every_epochs and shape is not None:
            found = lpips_memory(self._config.loss.lpips.net, shape)
            made = max(0, found.peak - found.weights - self._freed)
            yield HostRow(METRIC, found.weights + made, self._ranks, "private", "fake tensors")

    def _dataset(self) -> Iterator[HostRow]:
        section, data = self._config.data, self._data
        frames = data.num_frames or 0
        if data.storage == "packed":
            spikes = SPIKE_FRAMES * data.frame_bytes // (3 * 4 * 8)  # bits, at half of the frames' size
            size = frames * (2 * data.frame_bytes + spikes)
            yield HostRow(PACKED, size, 1, "page cache", "one copy for all processes")
        elif section.use_ram_cache:
            budget, decoded = int(section.cache_size_gb * GIB), 2 * frames * charged_bytes(data.frame_bytes)
            source = "DATA.CACHE_SIZE_GB, or all frames decoded; one for all processes"
            yield HostRow(CACHE, min(budget, decoded or budget), 1, "shared memory", source)

    def _of_training(self) -> Iterator[HostRow]:
        yield from loader_rows(self._training, ranks=self._ranks)
        if self._on_cpu and self._plan.train:
            each = self._owned(PARAMETERS, EMA)
            source = "workers keep the pages that training writes on"
            yield HostRow(BEFORE_FORK, each, self._ranks, "private", source)

    def _of_validation(self) -> Iterator[HostRow]:
        loading = self._validation
        if loading is None:
            return
        yield from loader_rows(loading, ranks=self._ranks)
        if not self._on_cpu:
            scored = 2 * (1 + 4) * loading.batch.blurry  # two images; restored and blended ones in float32
            yield HostRow(SCORED, scored, self._ranks, "private", "those of a batch")
        elif loading.workers and self._step is not None:
            made = max(0, self._step.phases.get(VALIDATION, 0) - self._stays)
            each = int((1 + self._gaps) * min(self._freed, _WRITTEN * made))
            source = "workers keep the pages that a validation writes on"
            yield HostRow(BEFORE_VALIDATION, each, self._ranks, "private", source)

    def _read_back(self) -> Iterator[HostRow]:
        """Yield a checkpoint, which is compared with memory at the end, and read when a run goes on."""
        size = self._owned(PARAMETERS, STATES, EMA)
        size -= self._freed if self._on_cpu else 0  # there it takes the place of what a step has freed
        yield HostRow(READ_BACK, size, self._ranks, "private", "weights, optimiser and running mean")

    def _owned(self, *owners: str) -> int:
        """Return what some owners hold in a step."""
        rows = () if self._step is None else self._step.rows
        return sum(row.bytes or 0 for row in rows if row.name in owners)

    @property
    def _gaps(self) -> float:
        """The share of tensors that comes on top of them in RAM."""
        return HEAP_GAPS[self._config.model.arch]

    @property
    def _stays(self) -> int:
        """What tensors hold from step to step."""
        return self._owned(PARAMETERS, STATES, EMA, LOSS)

    @property
    def _freed(self) -> int:
        """What a step or a validation frees in the end; a process on a CPU keeps it."""
        return 0 if self._step is None else self._step.peak_bytes - self._stays
