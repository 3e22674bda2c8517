"""What the driver knows of the GPUs: how full and busy they are, whose; nothing where it is silent."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from deblurkit.errors import DataError
from deblurkit.files import write_text
from deblurkit.memory.machine import unseen_processes

if TYPE_CHECKING:
    import torch

# NVML's bits of what slows the clocks, as nvml.h has them; an idle GPU's bit is no slowing.
_SLOWED_BY = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x20: "temperature (software)",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
_UNCORRECTED = 1  # NVML_MEMORY_ERROR_TYPE_UNCORRECTED
_SINCE_BOOT, _EVER = 0, 1  # NVML_VOLATILE_ECC, NVML_AGGREGATE_ECC
_DIVIDED = "it is divided (MIG): figures of the whole, processes of the parts that are ours"


@dataclass(frozen=True)
class Holder:
    """A process that holds memory of a GPU.

    Attributes:
        pid: as the driver counts; within a container that may be no process of ours.
        user: who runs it, None where that cannot be seen.
        bytes: what it holds, None where the driver does not say.
    """

    pid: int
    user: str | None
    bytes: int | None

    @property
    def is_this_process(self) -> bool:
        """Whether it is the process that asks."""
        return self.pid == os.getpid()


@dataclass(frozen=True)
class GpuState:
    """A GPU at one moment; None for what the driver does not tell.

    Attributes:
        index: the driver's number of it, as ``nvidia-smi`` shows; CUDA_VISIBLE_DEVICES may renumber.
        uuid: by which CUDA and the driver agree.
        name: of the model.
        total_bytes: its memory.
        used_bytes: what all processes and the driver itself hold.
        free_bytes: what is left.
        busy_percent: share of the last sampling period in which a kernel ran.
        temperature_celsius: of the chip.
        ecc_errors: uncorrected memory errors since boot; None where it has no ECC, or it is off.
        ecc_errors_ever: likewise since it was made.
        slowed_by: what keeps its clocks down at this moment; empty where nothing does.
        holders: processes that hold memory of it, largest first.
        unseen: what may not be seen, a line each.
    """

    index: int
    uuid: str | None
    name: str | None
    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    busy_percent: float | None
    temperature_celsius: float | None
    ecc_errors: int | None
    ecc_errors_ever: int | None
    slowed_by: tuple[str, ...]
    holders: tuple[Holder, ...]
    unseen: tuple[str, ...] = ()

    @property
    def is_divided(self) -> bool:
        """Whether a process gets a part of it alone (MIG), of which nothing is told here."""
        return _DIVIDED in self.unseen

    @property
    def unaccounted_bytes(self) -> int | None:
        """What is used and held by no process in the list: the driver's own, and of unseen processes."""
        if self.used_bytes is None:
            return None
        return max(0, self.used_bytes - sum(holder.bytes or 0 for holder in self.holders))


@dataclass(frozen=True)
class GpuLook:
    """All GPUs at one moment.

    Attributes:
        gpus: by their number; none without a driver.
        unseen: why there is nothing, or less than there is; empty where all is seen.
    """

    gpus: tuple[GpuState, ...]
    unseen: tuple[str, ...] = ()


class GpuReader(Protocol):
    """Who tells of the GPUs: the driver, or a recording."""

    def look(self) -> GpuLook:
        """Return what there is to see now."""
        ...


class Gpu:
    """One GPU, by way of NVML; an answer may be None, as driver and rights differ between servers."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Take the library and its handle of the GPU."""
        self._nvml = nvml
        self._handle = handle

    def busy_percent(self) -> float | None:
        """Return the share of the last sampling period (1/6 to 1 s) in which a kernel ran."""
        rates = self._asked("nvmlDeviceGetUtilizationRates")
        return None if rates is None else float(rates.gpu)

    def used_bytes(self) -> int | None:
        """Return what all processes together hold."""
        memory = self._asked("nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.used)

    def holders(self, *, who: Callable[[int], str | None] | None = None) -> list[Holder]:
        """Return the processes that hold memory, largest first.

        Args:
            who: tells who runs a process; None asks the system.
        """
        who, held = who or user_of, dict[int, int | None]()
        for kind in ("Compute", "Graphics"):
            for each in self._asked(f"nvmlDeviceGet{kind}RunningProcesses") or []:
                held[each.pid] = max(held.get(each.pid) or 0, each.usedGpuMemory or 0) or None
        found = [Holder(pid, who(pid), size) for pid, size in held.items()]
        return sorted(found, key=lambda holder: holder.bytes or 0, reverse=True)

    def state(self, index: int, *, who: Callable[[int], str | None] | None = None) -> GpuState:
        """Return all that the driver tells of it now.

        Args:
            index: the driver's number of it.
            who: tells who runs a process; None asks the system.
        """
        memory = self._asked("nvmlDeviceGetMemoryInfo")
        holders = tuple(self.holders(who=who))
        temperature = self._asked("nvmlDeviceGetTemperature", 0)
        return GpuState(
            index=index,
            uuid=_text(self._asked("nvmlDeviceGetUUID")),
            name=_text(self._asked("nvmlDeviceGetName")),
            total_bytes=None if memory is None else int(memory.total),
            used_bytes=None if memory is None else int(memory.used),
            free_bytes=None if memory is None else int(memory.free),
            busy_percent=self.busy_percent(),
            temperature_celsius=None if temperature is None else float(temperature),
            ecc_errors=self._asked("nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _SINCE_BOOT),
            ecc_errors_ever=self._asked("nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _EVER),
            slowed_by=self._slowed_by(),
            holders=holders,
            unseen=tuple(self._unseen(holders)),
        )

    def _slowed_by(self) -> tuple[str, ...]:
        bits = self._asked("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        return tuple(name for bit, name in _SLOWED_BY.items() if bits & bit)

    def _unseen(self, holders: Sequence[Holder]) -> Iterator[str]:
        mode = self._asked("nvmlDeviceGetMigMode")
        if mode and mode[0]:
            yield _DIVIDED
        if self._asked("nvmlDeviceGetComputeRunningProcesses") is None:
            yield "the driver does not tell which processes use it"
        if any(holder.user is None for holder in holders):
            yield "processes without a user are of another container, or have ended"
        if any(holder.bytes is None for holder in holders):
            yield "the driver does not tell what each process holds"

    def _asked(self, question: str, *more: int) -> Any:
        with contextlib.suppress(
            self._nvml.NVMLError, AttributeError
        ):  # an older library has fewer questions
            return getattr(self._nvml, question)(self._handle, *more)
        return None


class NvmlGpus:
    """The GPUs of this machine, those that others use among them."""

    def __init__(
        self,
        nvml: Any = None,
        *,
        who: Callable[[int], str | None] | None = None,
        unseen: Callable[[], Sequence[str]] = unseen_processes,
    ) -> None:
        """Take who is asked.

        Args:
            nvml: the library; None looks for it.
            who: tells who runs a process; None asks the system.
            unseen: tells why processes may not be seen.
        """
        self._nvml = nvml
        self._who = who
        self._unseen = unseen

    def look(self) -> GpuLook:
        """Return what the driver tells now; without driver or library no GPU, and why.

        A GPU that cannot be asked, as one that is lost, is left out, and said.
        """
        nvml = self._nvml
        if nvml is None:
            try:
                nvml = importlib.import_module("pynvml")
            except ImportError:
                return GpuLook((), ("the package nvidia-ml-py is not installed",))
        try:
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            return GpuLook((), (f"NVIDIA's driver does not answer: {error}",))
        found = self._all_of(nvml, count)
        return replace(found, unseen=(*found.unseen, *self._unseen())) if found.gpus else found

    def _all_of(self, nvml: Any, count: int) -> GpuLook:
        gpus, unseen = list[GpuState](), list[str]()
        for index in range(count):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
            except nvml.NVMLError as error:
                unseen.append(f"GPU {index}: {error}")
            else:
                gpus.append(Gpu(nvml, handle).state(index, who=self._who))
        return GpuLook(tuple(gpus), tuple(unseen))


class RecordedGpus:
    """Looks that were recorded, played back one after another; the last one stays."""

    def __init__(self, looks: Sequence[GpuLook]) -> None:
        """Take at least one look.

        Raises:
            ValueError: if there is none.
        """
        if not looks:
            raise ValueError("at least one look expected, got none")
        self._looks = list(looks)

    @classmethod
    def read(cls, path: Path) -> RecordedGpus:
        """Return the recording in a file that `record` has written.

        Raises:
            DataError: if it holds none.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            return cls([_look_of(json.loads(line)) for line in lines if line.strip()])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path}: a recording of GPUs expected, a JSON object of `gpus` a line; got {error}"
            ) from error

    def look(self) -> GpuLook:
        """Return the next look."""
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]


def record(path: Path, looks: Sequence[GpuLook]) -> None:
    """Write looks to a file, a JSON object a line, from which they can be played back."""
    lines = [json.dumps(asdict(look), ensure_ascii=False) for look in looks]
    write_text(path, "".join(f"{line}\n" for line in lines))


def find_gpu(device: torch.device) -> Gpu | None:
    """Return the GPU that ``device`` is, None without NVML or for another kind of device.

    CUDA_VISIBLE_DEVICES renumbers what CUDA sees and not what NVML does, so they agree on the UUID.
    """
    if device.type != "cuda":
        return None
    import torch

    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
    except (nvml.NVMLError, AttributeError, RuntimeError):
        return None


def user_of(pid: int) -> str | None:
    """Return who runs a process, None where there is none, or none that we may see."""
    try:
        return str(psutil.Process(pid).username())
    except (psutil.Error, KeyError):  # KeyError: a user whom this machine has no name for
        return None


def _look_of(values: dict[str, Any]) -> GpuLook:
    return GpuLook(tuple(_state_of(gpu) for gpu in values["gpus"]), tuple(values.get("unseen", ())))


def _state_of(values: dict[str, Any]) -> GpuState:
    made = {name: tuple(values.get(name, ())) for name in ("slowed_by", "unseen")}
    holders = tuple(Holder(**holder) for holder in values["holders"])
    return GpuState(**{**values, **made, "holders": holders})


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
