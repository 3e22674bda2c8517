"""What our own timing log notes on memory between the steps: numbers over the run, and warnings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from deblurkit.analysis.formats.log_events import event_text
from deblurkit.analysis.formats.log_figures import Figure
from deblurkit.analysis.tables import Event, is_duration, is_step
from deblurkit.timing.records import MEMORY, MEMORY_WARNING

_MOST_BYTES = 2**60
_OF_CUDA = {
    "allocated_bytes": "cuda_allocated_bytes",
    "reserved_bytes": "cuda_reserved_bytes",
    "peak_allocated_bytes": "cuda_peak_allocated_bytes",
}
_KINDS = {"host": "memory-warning", "gpu": "memory-warning"}  # by what a warning is about; others are leaks


def memory_figures(line: Mapping[str, Any]) -> list[Figure] | None:
    """Return the numbers of a line's look at memory; None where they are damaged.

    ``process_memory_bytes`` is what a rank's process and its workers hold together (PSS, or RSS where that is
    not known), with ``/main`` and ``/workers`` where there are any; ``host_memory_share`` is of the tightest
    limit.
    """
    row, step = line.get(MEMORY), line.get("after_step")
    if not isinstance(row, dict) or not is_step(step):
        return None
    try:
        return [Figure(name, value, step) for name, value in _values(row)]
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None


def memory_event(line: Mapping[str, Any]) -> Event | None:
    """Return a line's warning of memory; None where it is damaged."""
    row, step, moment = line.get(MEMORY_WARNING), line.get("after_step"), line.get("unix_time")
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not is_step(step):
        return None
    text = event_text(row["text"].encode())
    kind = _KINDS.get(str(row.get("about")), "leak")
    return Event(kind, text, step, float(moment) if is_duration(moment) else None)


def frames_of(figures: Iterable[tuple[Figure, float]]) -> dict[str, pd.DataFrame]:
    """Return numbers, each with its Unix seconds, as ``RunLog.scalars`` has them, in their order."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for figure, moment in figures:
        step = math.nan if figure.step is None else float(figure.step)
        rows.setdefault(figure.name, []).append((step, moment, figure.value))
    columns = ["step", "unix_s", "value"]
    return {name: pd.DataFrame(table, columns=columns, dtype="float64") for name, table in rows.items()}


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    processes = row["processes"]
    held = [_bytes(process["pss_bytes"], process["rss_bytes"]) for process in processes]
    are_workers = [process["role"] == "worker" for process in processes]
    yield "process_memory_bytes", sum(held)
    if any(are_workers):
        workers = sum(size for size, is_worker in zip(held, are_workers, strict=True) if is_worker)
        yield "process_memory_bytes/main", sum(held) - workers
        yield "process_memory_bytes/workers", workers
    limit = row.get("limit")
    if limit is not None:
        yield "host_memory_share", 1 - _bytes(limit["available_bytes"]) / _bytes(limit["limit_bytes"])
    if row.get("cache_bytes") is not None:
        yield "cache_bytes", _bytes(row["cache_bytes"])
    for key, name in _OF_CUDA.items() if row.get("cuda") is not None else ():
        yield name, _bytes(row["cuda"][key])


def _bytes(*candidates: object) -> float:
    """Return the first size that is told.

    Raises:
        ValueError: if that is no size, or none is told.
    """
    size = next((candidate for candidate in candidates if candidate is not None), None)
    if isinstance(size, bool) or not isinstance(size, int | float) or not 0 <= size < _MOST_BYTES:
        raise ValueError(f"a size in bytes expected, got {size!r}")
    return float(size)
