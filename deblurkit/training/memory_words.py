"""What a run says of its memory where something is wrong with it, a paragraph each."""

from __future__ import annotations

from collections.abc import Sequence

from deblurkit.memory.containers import Container
from deblurkit.memory.leaks import Growth
from deblurkit.memory.limits import Resource
from deblurkit.memory.monitor import CudaMemory, MemoryLook
from deblurkit.units import format_bytes, format_share, plural

_REASONS = {
    "worker": "its dataset keeps something from sample to sample",
    "cuda": "tensors are kept from step to step, or sizes that change leave gaps that nothing fits into",
}
_KEPT = "something is kept from step to step, such as losses with their graph (take numbers: `loss.item()`)"


def leak_text(growth: Growth, look: MemoryLook, *, alike: int = 0, ranks: int = 1) -> str:
    """Return what is to say of memory that leaks.

    Args:
        growth: whose, and how fast.
        look: at memory now.
        alike: other processes of its kind that leak as well.
        ranks: of the run on this machine, each with as many.
    """
    others = f", and so does that of {plural(alike, 'other')}" if alike else ""
    reason = _REASONS.get(growth.owner.kind, _KEPT)
    whose = growth.owner.name if growth.owner.kind == "cuda" else f"memory of {growth.owner.name}"
    return (
        f"{whose} grows by {format_bytes(growth.slope.per_step)} a step{others}:"
        f" {format_bytes(growth.first_bytes)} around step {growth.first_step:,},"
        f" {format_bytes(growth.last_bytes)} around step {growth.last_step:,}, and it does not level off;"
        f" {reason}{_lasts(growth, look, times=alike + 1, ranks=ranks)}"
    )


def copies_text(growths: Sequence[Growth], containers: Sequence[Container]) -> str:
    """Return what is to say of workers that copy, page by page, what they share with the main process.

    Args:
        growths: of what each of them has to itself, the fastest first.
        containers: Python objects that it may come from, the largest first.
    """
    first = growths[0]
    copies = "copies what it shares"
    if len(growths) > 1:
        copies = f"and {plural(len(growths) - 1, 'other')} copy what they share"
    large = "; ".join(container.as_words() for container in containers)
    advice = f"keep as arrays: {large}" if large else "no large list or dict was found in the dataset"
    return (
        f"{first.owner.name} {copies} with the main process:"
        f" {format_bytes(first.last_bytes - first.first_bytes)} more to itself since step"
        f" {first.first_step:,}, {format_bytes(first.slope.per_step)} more a step. Who looks at a Python"
        f" object writes its count of references, and the kernel copies the page; {advice}; fewer workers"
        " (DATALOADER.TRAIN_WORKERS) copy less"
    )


def host_text(
    limit: Resource, share: float, look: MemoryLook, advice: Sequence[str], *, ranks: int = 1
) -> str:
    """Return what is to say of a machine or a control group that is nearly full, first as the seeds did.

    Args:
        limit: that is nearly met.
        share: of it that is in use.
        look: at memory now.
        advice: what would free some.
        ranks: of the run on this machine; each takes about as much as the one that looks.
    """
    holders = "this process holds"
    if look.workers:
        holders = f"this process and its {plural(len(look.workers), 'worker')} hold"
    used = (limit.limit_bytes or 0) - (limit.available_bytes or 0)
    is_others = ranks * look.held_bytes + (look.cache_bytes or 0) < used / 2
    most = "; most of it is others', whom `deblurkit diagnose-memory` names" if is_others else ""
    return (
        f"System memory usage is critically high ({100 * share:.1f}%)!"
        f" {format_bytes(limit.available_bytes or 0)} of {format_bytes(limit.limit_bytes or 0)} are left"
        f" ({limit.name}); {holders} {format_bytes(look.held_bytes)}{_besides(look, ranks)}{most}."
        f"{_consider(advice)}"
    )


def gpu_text(cuda: CudaMemory, share: float, advice: Sequence[str]) -> str:
    """Return what is to say of a GPU that is nearly full."""
    return (
        f"memory of {cuda.device} is used to {format_share(share)}: {format_bytes(cuda.free_bytes)} of"
        f" {format_bytes(cuda.total_bytes)} are left; PyTorch has reserved"
        f" {format_bytes(cuda.reserved_bytes)} here,"
        f" {format_bytes(cuda.peak_allocated_bytes)} were allocated at most.{_consider(advice)}"
    )


def _besides(look: MemoryLook, ranks: int) -> str:
    """Return what the run holds on this machine beside the process that looks; nothing where it is alone."""
    all_of_them = f"{ranks} ranks about {format_bytes(ranks * look.held_bytes)}" if ranks > 1 else ""
    cache = f"the run's cache {format_bytes(look.cache_bytes)}" if look.cache_bytes else ""
    return "".join(f", {part}" for part in (all_of_them, cache) if part)


def _consider(advice: Sequence[str]) -> str:
    return f" What frees memory: {'; '.join(advice)}" if advice else ""


def _lasts(growth: Growth, look: MemoryLook, *, times: int, ranks: int) -> str:
    """Return how many steps the memory lasts that is left; nothing where that is not known."""
    if growth.owner.kind == "cuda":
        ranks = 1  # each has a GPU of its own
        left, where = (look.cuda.free_bytes, look.cuda.device) if look.cuda else (None, "")
    else:
        limit = look.tightest
        left, where = (limit.available_bytes, limit.name) if limit else (None, "")
    if left is None:
        return ""
    steps = round(left / (times * ranks * growth.slope.per_step))
    if_alike = f" if all {ranks} ranks here grow so" if ranks > 1 else ""
    return f". What is left of {where}, {format_bytes(left)}, lasts {plural(steps, 'step')} more{if_alike}"
