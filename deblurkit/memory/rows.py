"""A look at a run's memory as its logs have it: an object for programs, a line for people, and read back."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deblurkit.memory.limits import Resource
from deblurkit.memory.monitor import MemoryLook, ProcessMemory
from deblurkit.timing.records import MEMORY, MEMORY_WARNING
from deblurkit.units import format_bytes, plural

NEARLY_FULL = 0.9  # of what there is: the seeds' limit
_MB, _GB = 1e6, 1e9  # the seeds' line counts by tens
_TAIL = 2**21  # bytes at the end of a log in which the newest look is looked for
_MARKS = {kind: f'"{kind}":{{'.encode() for kind in (MEMORY, MEMORY_WARNING)}


def as_row(look: MemoryLook, *, step: int | None) -> dict[str, object]:
    """Return a look as plain values; all sizes in bytes, None for what is not known.

    Args:
        look: at memory.
        step: after which it was; None before the first one.
    """
    return {
        "step": step,
        "processes": [_process(process) for process in look.processes],
        "limit": _resource(look.tightest),
        "shm": _resource(look.shm),
        "cache_bytes": look.cache_bytes,
        "cuda": None if look.cuda is None else asdict(look.cuda),
    }


def as_line(look: MemoryLook, *, step: int | None) -> str:
    """Return a look as a line that begins as the seeds' did: MB and GB there are powers of ten.

    ``[Step 100] Memory - Process: 15678.9MB (6.1%), System: 125.4/256.0GB (49.0%) | …``. Process is what
    this process and its workers really take (PSS), System the tightest limit of RAM and control groups.
    """
    when = "After dataset creation" if step is None else f"Step {step}"
    return f"[{when}] Memory - {', '.join(_seeds_part(look))} | {' | '.join(_more(look))}"


def used_share(limit: Resource | None) -> float | None:
    """Return the share of a limit that is in use, between 0 and 1; None where that is not known."""
    if limit is None or limit.limit_bytes is None or limit.available_bytes is None or not limit.limit_bytes:
        return None
    return 1 - limit.available_bytes / limit.limit_bytes


@dataclass(frozen=True)
class LastMemory:
    """What the logs of a run say last of its memory [bytes].

    Attributes:
        step: after which it was; None before the first one.
        at: Unix seconds; None where it is not told.
        processes: how many there were, of all ranks.
        held_bytes: by all of them.
        limit: name of the tightest limit; None where none was known, as the rest then.
        limit_kind: see `limits.Kind`.
        limit_bytes: of it.
        available_bytes: that were left of it.
        warnings: what the run has warned of: leaks, limits that are nearly met.
    """

    step: int | None
    at: float | None
    processes: int
    held_bytes: int
    limit: str | None = None
    limit_kind: str | None = None
    limit_bytes: int | None = None
    available_bytes: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def was_short(self) -> bool:
        """Whether less than a tenth of the tightest limit was left."""
        if not self.limit_bytes or self.available_bytes is None:
            return False
        return self.available_bytes < (1 - NEARLY_FULL) * self.limit_bytes

    def as_words(self) -> str:
        """Return it as a clause."""
        when = "before the first step" if self.step is None else f"after step {self.step:,}"
        if self.at is not None:
            moment = datetime.datetime.fromtimestamp(self.at).isoformat(sep=" ", timespec="seconds")
            when = f"{when} ({moment})"
        held = f"{plural(self.processes, 'process')} of the run held {format_bytes(self.held_bytes)}"
        if self.limit is None or self.available_bytes is None or self.limit_bytes is None:
            return f"{when} {held}"
        left = f"{format_bytes(self.available_bytes)} of {format_bytes(self.limit_bytes)} were left"
        return f"{when} {held}, and {left} ({self.limit})"


def last_memory(folder: Path, *, since: float | None = None) -> LastMemory | None:
    """Return what the newest timing logs in a folder say last of a run's memory, over all ranks.

    Args:
        folder: of the logs.
        since: Unix seconds; logs that were last written before then are of an earlier part of the run.
    """
    paths = [path for path in folder.glob("timing_*.rank*.jsonl") if _is_new(path, since)]
    starts = [path.name.partition(".")[0] for path in paths]
    newest = max(starts, key=lambda start: (len(start), start), default="")
    own = [path for path, start in zip(paths, starts, strict=True) if start == newest]
    found = [look for path in own if (look := _newest_in(path)) is not None]
    return _together(found) if found else None


def _process(process: ProcessMemory) -> dict[str, object]:
    owner = process.owner
    sizes = {name: getattr(process, name) for name in ("rss_bytes", "pss_bytes", "uss_bytes")}
    return {"role": owner.kind, "number": owner.number, "pid": owner.pid, **sizes}


def _resource(limit: Resource | None) -> dict[str, object] | None:
    if limit is None:
        return None
    sizes = {"limit_bytes": limit.limit_bytes, "available_bytes": limit.available_bytes}
    return {"name": limit.name, "kind": limit.kind, **sizes}


def _seeds_part(look: MemoryLook) -> Iterator[str]:
    limit, held = look.tightest, look.held_bytes
    if limit is None or limit.limit_bytes is None or limit.available_bytes is None:
        yield f"Process: {held / _MB:.1f}MB"
        return
    total, used = limit.limit_bytes, limit.limit_bytes - limit.available_bytes
    yield f"Process: {held / _MB:.1f}MB ({100 * held / total:.1f}%)"
    yield f"System: {used / _GB:.1f}/{total / _GB:.1f}GB ({100 * used / total:.1f}%)"


def _more(look: MemoryLook) -> Iterator[str]:
    yield f"{look.own.owner.kind} {format_bytes(look.own.held_bytes)}"
    if look.workers:
        held = sum(worker.held_bytes for worker in look.workers)
        yield f"{plural(len(look.workers), 'worker')} {format_bytes(held)}"
    for limit in (look.tightest, look.shm):
        if limit is not None and limit.available_bytes is not None:
            yield f"{format_bytes(limit.available_bytes)} left of {limit.name}"
    if look.cache_bytes is not None:
        yield f"cache {format_bytes(look.cache_bytes)}"
    if look.cuda is not None:
        cuda = look.cuda
        yield (
            f"{cuda.device}: {format_bytes(cuda.allocated_bytes)} allocated,"
            f" {format_bytes(cuda.peak_allocated_bytes)} at most,"
            f" {format_bytes(cuda.reserved_bytes)} reserved, {format_bytes(cuda.free_bytes)} free"
        )


def _is_new(path: Path, since: float | None) -> bool:
    return since is None or path.stat().st_mtime >= since


def _newest_in(path: Path) -> LastMemory | None:
    """Return what the end of a log says of memory; None where it says nothing, or is damaged there."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        lines = file.read().split(b"\n")
    looks = [found for line in lines if (found := _noted(line, MEMORY)) is not None]
    warnings = [found for line in lines if (found := _noted(line, MEMORY_WARNING)) is not None]
    try:
        look = _read_back(looks[-1])
        return replace(look, warnings=tuple(line[MEMORY_WARNING]["text"] for line in warnings))
    except (IndexError, KeyError, TypeError, AttributeError):
        return None


def _noted(line: bytes, kind: str) -> Any:
    """Return a line that has a note of that kind; None for any other, and for one that was cut off."""
    try:
        return json.loads(line) if _MARKS[kind] in line else None
    except (ValueError, RecursionError):
        return None


def _read_back(line: Mapping[str, Any]) -> LastMemory:
    row = line[MEMORY]
    processes, limit = row["processes"], row["limit"] or {}
    sizes = [each["rss_bytes"] if each["pss_bytes"] is None else each["pss_bytes"] for each in processes]
    return LastMemory(
        step=row["step"],
        at=line.get("unix_time"),
        processes=len(processes),
        held_bytes=sum(sizes),
        limit=limit.get("name"),
        limit_kind=limit.get("kind"),
        limit_bytes=limit.get("limit_bytes"),
        available_bytes=limit.get("available_bytes"),
    )


def _together(ranks: Sequence[LastMemory]) -> LastMemory:
    """Return the looks of several ranks as one: what all hold, and the least that any saw left."""
    newest = max(ranks, key=lambda look: look.at or 0)
    least = min(ranks, key=lambda look: (look.available_bytes is None, look.available_bytes or 0))
    return replace(
        least,
        step=newest.step,
        at=newest.at,
        processes=sum(look.processes for look in ranks),
        held_bytes=sum(look.held_bytes for look in ranks),
        warnings=tuple(dict.fromkeys(text for look in ranks for text in look.warnings)),
    )
