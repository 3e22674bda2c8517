"""What a run of a configuration will take of a machine's memory, and which changes would free most."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from deblurkit.config.schema import Config
from deblurkit.config.sections.data import DataSection
from deblurkit.data.manifest import MANIFEST, Storage, read_manifest
from deblurkit.data.workers import available_cpus
from deblurkit.errors import DataError
from deblurkit.memory.gpu import GpuState
from deblurkit.memory.look import Look
from deblurkit.tuning.change_prices import Freed
from deblurkit.tuning.gpu_doubts import ORDER, gpu_doubt
from deblurkit.tuning.host_memory import HostMemory, predict_host
from deblurkit.tuning.memory_changes import Change, changes_for
from deblurkit.tuning.shared_states import as_shared
from deblurkit.tuning.side_by_side import Predict, SideBySide, processes_for
from deblurkit.tuning.step_memory import DeviceKind, StepMemory, predict_step
from deblurkit.tuning.verdicts import ResourceVerdict, judge, narrowest, of_training_alone
from deblurkit.units import format_bytes, plural

VISIBLE = "CUDA_VISIBLE_DEVICES"
_PART = "MIG-"  # begins the UUID of a part of a GPU, of older drivers with the GPU's own in it
_LONG = 15.0  # seconds of a core: a process takes about half of it to begin, libraries and first tensors


@dataclass(frozen=True)
class DataSize:
    """What of a dataset memory depends on; None for what is not known.

    Attributes:
        frame_shape: rows and columns.
        num_frames: blurry frames that a run reads, those of its validations among them.
        storage: how frames lie there.
        note: why nothing is known; empty where it is.
    """

    frame_shape: tuple[int, int] | None
    num_frames: int | None
    storage: Storage = "png"
    note: str = ""


@dataclass(frozen=True)
class RunMemory:
    """What a run will take of memory.

    Attributes:
        title: what the run is, in words.
        step: what a step holds on its device.
        host: what all processes hold.
        data: sizes of the dataset.
        verdicts: whether that is there.
        resource: what changes are to free: that of which the run takes the largest share.
        changes: those that free most, most first.
        notes: what was not predicted, and what else would do.
    """

    title: str
    step: StepMemory
    host: HostMemory
    data: DataSize
    verdicts: tuple[ResourceVerdict, ...]
    resource: Freed
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


def predict_run(
    config: Config,
    look: Look,
    *,
    world_size: int = 1,
    message: Callable[[str], None],
    environment: Mapping[str, str] = os.environ,
    predict: Callable[..., StepMemory] = predict_step,
) -> RunMemory:
    """Return what a run of ``config`` will take of the machine that ``look`` has seen, without changes.

    Args:
        config: the whole configuration.
        look: at the machine.
        world_size: processes that train together.
        message: is told what takes long.
        environment: whose CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER count.
        predict: tells what a step holds.

    Raises:
        CheckpointError: if a teacher cannot be read.
    """
    gpus = visible_gpus(look.gpus.gpus, environment.get(VISIBLE))
    kind, data = device_kind(config.train.device, gpus), size_of_data(config.data)
    message(f"predicting a step of {config.model.arch} on a {kind.upper().replace('CUDA', 'GPU')} …")
    step = predict(config, device_kind=kind, frame_shape=data.frame_shape, world_size=world_size)
    step = as_shared(step, config, ranks=world_size)
    host = _host(data)(
        config, device_kind=kind, frame_shape=data.frame_shape, world_size=world_size, step=step
    )
    verdicts = _judged(step, host, data, look, environment)
    others = [gpu for gpu in look.gpus.gpus if gpu not in gpus[:world_size]]
    return RunMemory(
        title=_title(config, step, host),
        step=step,
        host=host,
        data=data,
        verdicts=tuple(verdicts),
        resource=freed(verdicts, kind),
        changes=(),
        notes=tuple(_notes(data, step, others)),
    )


def with_changes(
    run: RunMemory,
    config: Config,
    *,
    on_progress: Callable[[int, int], None],
    predict: Predict = predict_step,
    processes: int = 1,
) -> RunMemory:
    """Return a run with the changes that free most of what it takes the largest share of.

    Args:
        run: of ``config``.
        config: the whole configuration.
        on_progress: told how many predictions are done, of how many at most.
        predict: tells what a step holds; at module level where there are several processes.
        processes: that predict at the same time; 1 is this one, more are its children.
    """
    if processes > 1:
        with SideBySide(predict, processes=processes) as ahead:
            return with_changes(run, config, on_progress=on_progress, predict=ahead)
    worst = narrowest(run.verdicts)
    changes = changes_for(
        config,
        step=run.step,
        host=run.host,
        resource=run.resource,
        predict=predict,
        predict_host=_host(run.data),
        on_progress=on_progress,
        frame_shape=run.data.frame_shape,
        available_bytes=None if worst is None else worst.available_bytes,
    )
    return replace(run, changes=tuple(changes))


def predicting_processes(run: RunMemory, *, seconds: float, cpus: int | None = None) -> int:
    """Return how many processes should predict the changes of a run.

    Args:
        run: as it was predicted without changes.
        seconds: of a core that this has taken; where it is soon done, children are not worth their beginning.
        cpus: that may be used; None: those of this machine.
    """
    if seconds < _LONG:
        return 1
    ram = [each.available_bytes for each in run.verdicts if each.kind in ("ram", "cgroup")]
    return processes_for(
        cpus=available_cpus() if cpus is None else cpus,
        available_bytes=min((count for count in ram if count is not None), default=None),
    )


def judged_again(
    run: RunMemory, look: Look, *, environment: Mapping[str, str] = os.environ
) -> list[ResourceVerdict]:
    """Return the verdicts on a run as they are at another moment."""
    return _judged(run.step, run.host, run.data, look, environment)


def visible_gpus(gpus: Sequence[GpuState], setting: str | None) -> list[GpuState]:
    """Return the GPUs that CUDA would number from 0, in that order.

    Args:
        gpus: all that the driver tells of.
        setting: CUDA_VISIBLE_DEVICES: numbers or UUIDs, of which the first unknown one ends the list; None
            where it is not set. For a part of a GPU (MIG) stands the GPU; which one of several that are
            divided is not known.
    """
    if setting is None:
        return list(gpus)
    found: list[GpuState] = []
    for word in map(str.strip, setting.split(",")):
        gpu = next((gpu for gpu in gpus if _is_called(gpu, word)), None)
        if gpu is None:
            break
        found.append(gpu)
    return found


def device_kind(setting: str, gpus: Sequence[GpuState]) -> DeviceKind:
    """Return what a run with that TRAIN.DEVICE would be on, where those GPUs may be used."""
    return "cuda" if setting == "cuda" or (setting == "auto" and gpus) else "cpu"


def freed(verdicts: Sequence[ResourceVerdict], kind: DeviceKind) -> Freed:
    """Return what is to be freed: the resource of which the run takes the largest share."""
    worst = narrowest(verdicts)
    if worst is None:
        return "device" if kind == "cuda" else "ram"
    return "device" if worst.kind == "gpu" else "shm" if worst.kind == "shm" else "ram"


def size_of_data(section: DataSection) -> DataSize:
    """Return the sizes of the dataset at DATA.ROOT, as its manifest tells them."""
    try:
        manifest = read_manifest(section.root / MANIFEST)
    except DataError as error:
        why = str(error) if section.root.exists() else f"{section.root} is not there"
        return DataSize(None, None, note=f"DATA.ROOT: {why}; what holds whole frames is not predicted")
    splits = (section.train_split, section.val_split)
    frames = [len(record.stems) for record in manifest.sequences if record.split in splits]
    return DataSize(manifest.frame_shape, sum(frames), manifest.storage)


def _host(data: DataSize) -> Callable[..., HostMemory]:
    return partial(predict_host, num_frames=data.num_frames, storage=data.storage)


def _is_called(gpu: GpuState, word: str) -> bool:
    if word.isdigit():
        return gpu.index == int(word)
    if word.startswith(_PART):
        whole = word.removeprefix(_PART).partition("/")[0]
        return gpu.is_divided and (not whole.startswith("GPU-") or whole == gpu.uuid)
    return bool(word) and gpu.uuid is not None and gpu.uuid.startswith(word)


def _judged(
    step: StepMemory, host: HostMemory, data: DataSize, look: Look, environment: Mapping[str, str]
) -> list[ResourceVerdict]:
    setting = environment.get(VISIBLE)
    gpus = visible_gpus(look.gpus.gpus, setting)
    taken = gpus[: host.world_size]
    doubt = gpu_doubt(look.gpus.gpus, taken=taken, setting=setting, order=environment.get(ORDER))
    verdicts = judge(step, host, limits=look.limits, gpus=gpus, gpu_doubt=doubt)
    if data.frame_shape is None:
        return [of_training_alone(each) for each in verdicts]
    return verdicts


def _title(config: Config, step: StepMemory, host: HostMemory) -> str:
    clips = " x ".join(map(str, step.clip_shape))
    workers = f", {plural(host.workers, 'loader worker')} each" if host.workers else ""
    return f"{config.model.arch}, clips {clips}, {plural(host.world_size, 'process')}{workers}"


def _notes(data: DataSize, step: StepMemory, others: Sequence[GpuState]) -> Iterator[str]:
    """Yield what is not predicted, and the GPUs that would do and are not taken."""
    if data.note:
        yield data.note
    if step.device_kind != "cuda":
        return
    for gpu in others:
        if (gpu.free_bytes or 0) > step.total_bytes and not gpu.is_divided:
            free = format_bytes(gpu.free_bytes or 0)
            yield f"GPU {gpu.index} has {free} free, and would do: {VISIBLE}={gpu.uuid or gpu.index}"
