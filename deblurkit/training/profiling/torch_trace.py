"""A step under PyTorch's own profiler, with the rows of a profile named in its trace."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, record_function

from deblurkit.files import write_text
from deblurkit.timing.clock import HostClock
from deblurkit.training.profiling.watched import Rows
from deblurkit.training.profiling.workplace import Workplace

_PREFIX = "deblurkit_row_"  # PyTorch writes names that are not ASCII as "unknown"


def trace_step(place: Workplace, rows: Rows, path: Path) -> None:
    """Write a step's trace to ``path``: every operator, and the forward calls of the rows by their names."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its library prints what it does on standard error
    activities = [ProfilerActivity.CPU]
    if place.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    names = {f"{_PREFIX}{number}": row for number, row in enumerate(rows.shown)}
    handles = _annotate(rows, {row: name for name, row in names.items()})
    try:
        with torch.profiler.profile(activities=activities) as profiler:
            for _ in place.take_steps(1, HostClock(), accumulation=1):
                pass
    finally:
        for handle in handles:
            handle.remove()
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(exported))
        document = json.loads(exported.read_text(encoding="utf-8", errors="replace"), strict=False)
    write_text(path, json.dumps(renamed(document, names), ensure_ascii=False))


def renamed(document: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return a Chrome trace with the names of its events replaced where ``names`` has them."""
    for event in document.get("traceEvents", []):
        event["name"] = names.get(event.get("name", ""), event.get("name", ""))
    return document


def _annotate(rows: Rows, ids: dict[str, str]) -> list[Any]:
    """Have each forward call of a shown row recorded under its id."""
    open_ones: list[record_function] = []

    def before(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            scope = record_function(name)
            scope.__enter__()
            open_ones.append(scope)

        return hook

    def after(module: nn.Module, args: Any, output: Any) -> None:
        if open_ones:
            open_ones.pop().__exit__(None, None, None)

    handles: list[Any] = []
    for module, row in rows.watched.items():
        if row in ids:
            handles.append(module.register_forward_pre_hook(before(ids[row])))
            handles.append(module.register_forward_hook(after, always_call=True))
    return handles
