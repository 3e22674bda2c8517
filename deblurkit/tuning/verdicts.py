"""Whether what a run will take is there: a verdict for every limit of the machine and every GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from deblurkit.memory.gpu import GpuState
from deblurkit.memory.limits import Resource
from deblurkit.memory.look import name_of
from deblurkit.units import format_bytes, plural

if TYPE_CHECKING:
    from deblurkit.tuning.host_memory import HostMemory
    from deblurkit.tuning.step_memory import StepMemory

Verdict: TypeAlias = Literal["fits", "tight", "does not fit", "cannot know"]

TIGHT = 0.9  # of what is there: beyond it, what a prediction does not know of may be too much
THRESHOLDS: dict[str, tuple[Verdict, ...]] = {
    "tight": ("tight", "does not fit"),
    "cannot-know": ("cannot know", "does not fit"),
    "does-not-fit": ("does not fit",),
}
_SLOWS = "memory.high"  # the one limit of a control group that may be passed
_CODE_GOES = "code of libraries is dropped and read again from the disk, which is slow"
_ADDRESS_SPACE = "it counts address space, of which a process takes more than memory"
_BOUNDS = ("gpu", "shm", "ram", "cgroup")  # what bounds the memory of a run as a whole
_AMPLE = 0.5  # of what is there: where training takes less, validation will hardly be what is too much


@dataclass(frozen=True)
class ResourceVerdict:
    """Whether a resource gives what a run will take of it.

    Attributes:
        name: as a user knows it.
        kind: ``gpu``, or the kind of a `Resource`.
        available_bytes: what is there; None where that is not known.
        predicted_bytes: what the run will take; None where that is not known.
        verdict: ``tight`` where less than a tenth of what is there would be left.
        why: what is left or missing, what then happens, or what is not known.
    """

    name: str
    kind: str
    available_bytes: int | None
    predicted_bytes: int | None
    verdict: Verdict
    why: str

    @property
    def margin_bytes(self) -> int | None:
        """What would be left, negative where it does not suffice; None where either is not known."""
        if self.available_bytes is None or self.predicted_bytes is None:
            return None
        return self.available_bytes - self.predicted_bytes

    @property
    def used_share(self) -> float | None:
        """What is taken of what is there, more than 1 where it does not suffice; None where not known."""
        if self.available_bytes is None or self.predicted_bytes is None:
            return None
        return self.predicted_bytes / max(self.available_bytes, 1)


def judge(
    step: StepMemory | None,
    host: HostMemory | None,
    *,
    limits: Sequence[Resource],
    gpus: Sequence[GpuState],
    gpu_doubt: str = "",
) -> list[ResourceVerdict]:
    """Return a verdict for every resource that a run takes from.

    Args:
        step: what a step holds on its device; None where it is not predicted.
        host: what all processes of the run hold; likewise.
        limits: of this machine, as `host_limits` gives them.
        gpus: those that the run may use, in the order of its ranks.
        gpu_doubt: why they may be others, or only parts; empty where they are not.
    """
    found = [] if host is None else [row for limit in limits for row in _of_limit(limit, host)]
    if step is not None and step.device_kind == "cuda":
        ranks = 1 if host is None else host.world_size
        found += _of_gpus(step, gpus, ranks=ranks, doubt=gpu_doubt)
    return found


def of_training_alone(verdict: ResourceVerdict) -> ResourceVerdict:
    """Return a verdict on a run whose validation was not predicted: what it will take comes on top.

    What fits stays so where less than half of what is there is taken.
    """
    share = verdict.used_share
    if verdict.kind not in _BOUNDS or verdict.verdict not in ("fits", "tight") or share is None:
        return verdict
    alone = replace(verdict, why=f"training alone: {verdict.why}")
    if verdict.verdict == "tight" or share < _AMPLE:
        return alone
    return replace(alone, verdict="cannot know", why=f"{alone.why}; validation is not predicted")


def failing(verdicts: Sequence[ResourceVerdict], threshold: str) -> list[ResourceVerdict]:
    """Return the verdicts that are as bad as ``threshold``, one of THRESHOLDS."""
    return [each for each in verdicts if each.verdict in THRESHOLDS[threshold]]


def narrowest(verdicts: Sequence[ResourceVerdict]) -> ResourceVerdict | None:
    """Return the resource of which the run takes the largest share; None where none is known.

    Limits on address space are not among them: of these a run takes more than memory, each process by itself.
    """
    known = [each for each in verdicts if each.used_share is not None and each.kind in _BOUNDS]
    return max(known, key=lambda each: each.used_share or 0.0, default=None)


def _of_limit(limit: Resource, host: HostMemory) -> Iterator[ResourceVerdict]:
    if limit.kind == "shm":
        yield _of_shm(limit, host.shm_bytes)
    elif limit.kind in ("ram", "cgroup") and (limit.limit_bytes is not None or _is_unread(limit)):
        yield _of_memory(limit, host.needed_bytes, code=host.code_bytes)
    elif limit.kind == "commit":
        yield _of_addresses(limit, limit.available_bytes, host.needed_bytes)
    elif limit.name in ("ulimit -v", "ulimit -d") and limit.limit_bytes is not None:
        yield _of_addresses(limit, limit.limit_bytes, largest_process(host))


def largest_process(host: HostMemory) -> int:
    """Return what a main process holds by itself: all rows that each rank has once."""
    own = [row.each_bytes for row in host.rows if row.count == host.world_size and row.kind == "private"]
    return sum(own)


def _is_unread(limit: Resource) -> bool:
    return limit.used_bytes is None and bool(limit.unseen)


def _of_memory(limit: Resource, needed: int, *, code: int) -> ResourceVerdict:
    """Return the verdict of a limit on memory, of which the code of libraries can be read again."""
    available = limit.available_bytes
    if available is None:
        return _unknown(limit, needed, limit.unseen or "what others hold of it is not told")
    found = _compared(name_of(limit), limit.kind, available, needed, limit.beyond)
    if found.verdict != "does not fit":
        return found
    if limit.source.name == _SLOWS:
        return replace(found, verdict="tight", why=limit.beyond)
    if needed - code <= available:
        return replace(
            found, verdict="tight", why=f"{format_bytes(needed - available)} too much: {_CODE_GOES}"
        )
    return found


def _of_shm(limit: Resource, needed: int) -> ResourceVerdict:
    if limit.available_bytes is not None:
        return _compared(limit.name, limit.kind, limit.available_bytes, needed, limit.beyond)
    if needed == 0 or not limit.unseen:
        why = "nothing is put there" if needed == 0 else limit.beyond
        return ResourceVerdict(limit.name, limit.kind, None, needed, "fits", why)
    return _unknown(limit, needed, limit.unseen)


def _of_addresses(limit: Resource, available: int | None, needed: int) -> ResourceVerdict:
    """Return the verdict of a limit on address space: memory alone may be too much, never surely little."""
    if available is not None and needed > available:
        return _compared(limit.name, limit.kind, available, needed, limit.beyond)
    return ResourceVerdict(limit.name, limit.kind, available, needed, "cannot know", _ADDRESS_SPACE)


def _unknown(limit: Resource, needed: int, why: str) -> ResourceVerdict:
    return ResourceVerdict(name_of(limit), limit.kind, None, needed, "cannot know", why)


def _of_gpus(
    step: StepMemory, gpus: Sequence[GpuState], *, ranks: int, doubt: str
) -> Iterator[ResourceVerdict]:
    needed = step.total_bytes
    for gpu in gpus[:ranks]:
        yield _of_gpu(gpu, needed, doubt)
    if not gpus:
        yield ResourceVerdict("GPU", "gpu", None, needed, "cannot know", "no GPU is seen from here")
    elif len(gpus) < ranks:
        why = f"{plural(ranks, 'rank')} need as many, {plural(len(gpus), 'GPU')} may be used"
        yield ResourceVerdict("GPUs", "gpu", None, needed, "does not fit", why)


def _of_gpu(gpu: GpuState, needed: int, doubt: str) -> ResourceVerdict:
    name = f"GPU {gpu.index}"
    if gpu.free_bytes is None:
        return ResourceVerdict(name, "gpu", None, needed, "cannot know", "the driver does not tell")
    if doubt:
        return ResourceVerdict(name, "gpu", gpu.free_bytes, needed, "cannot know", doubt)
    return _compared(name, "gpu", gpu.free_bytes, needed, "PyTorch ends with out of memory")


def _compared(name: str, kind: str, available: int, needed: int, beyond: str) -> ResourceVerdict:
    margin = available - needed
    if margin < 0:
        verdict: Verdict = "does not fit"
        why = f"{format_bytes(-margin)} too much: {beyond}"
    elif needed > TIGHT * available:
        verdict, why = "tight", f"{format_bytes(margin)} left, less than a tenth"
    else:
        verdict, why = "fits", f"{format_bytes(margin)} left"
    return ResourceVerdict(name, kind, available, needed, verdict, why)
