"""What ``diagnose-memory`` has found, as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblurkit.memory.look import Look, name_of, program_of, removal_of
from deblurkit.memory.processes import Group, Tree
from deblurkit.tuning.memory_report import MemoryReport, PastRun
from deblurkit.tuning.verdicts import ResourceVerdict

if TYPE_CHECKING:
    from deblurkit.tuning.run_memory import RunMemory

SCHEMA = "deblurkit-diagnose-memory/1"


def memory_as_json(report: MemoryReport) -> str:
    """Return the report as one document; docs/memory.md names its fields."""
    return json.dumps(memory_as_dict(report), ensure_ascii=False, indent=2, allow_nan=False)


def memory_as_dict(report: MemoryReport) -> dict[str, Any]:
    """Return the report's JSON object: sizes in bytes, times in Unix seconds, null for what is not known."""
    look, run = report.look, report.run
    verdicts = () if run is None else run.verdicts
    return {
        "schema": SCHEMA,
        "at": look.at,
        "hostname": look.hostname,
        "user": look.user,
        "resources": [*map(_verdict, verdicts), *_unjudged(look, verdicts)],
        "holders": list(_holders(look)),
        "changes": [] if run is None else [_change(each) for each in run.changes],
        "run": None if run is None else _run(run),
        "past": None if report.past is None else _past(report.past),
        "limits": [{**_plain(limit), "name": name_of(limit)} for limit in look.limits],
        "pressure": [_plain(each) for each in look.pressure],
        "oom_counts": [_plain(each) for each in look.oom_counts],
        "gpus": [_plain(gpu) for gpu in look.gpus.gpus],
        "trees": [_tree(tree) for tree in look.trees],
        "remains": [{**_plain(each), "remove": removal_of(each, user=look.user)} for each in look.remains],
        "unseen": list(look.unseen),
    }


def _verdict(each: ResourceVerdict) -> dict[str, Any]:
    return {
        "name": each.name,
        "available_bytes": each.available_bytes,
        "predicted_bytes": each.predicted_bytes,
        "verdict": each.verdict,
    }


def _unjudged(look: Look, verdicts: Sequence[ResourceVerdict]) -> Iterator[dict[str, Any]]:
    """Yield the resources that nothing is predicted for."""
    there = {name_of(limit): limit.available_bytes for limit in look.limits if limit.limit_bytes is not None}
    there |= {f"GPU {gpu.index}": gpu.free_bytes for gpu in look.gpus.gpus}
    judged = {each.name for each in verdicts}
    for name, available in there.items():
        if name not in judged:
            yield {"name": name, "available_bytes": available, "predicted_bytes": None, "verdict": None}


def _holders(look: Look) -> Iterator[dict[str, Any]]:
    """Yield who holds what: users and processes of RAM, processes of GPUs, owners of shared memory."""
    for user in look.holders.users:
        yield _holder("RAM", user=user.user, size=user.rss_bytes)
    for process in look.holders.largest:
        yield _holder(
            "RAM", user=process.user, pid=process.pid, name=program_of(process), size=process.rss_bytes
        )
    for gpu in look.gpus.gpus:
        for each in gpu.holders:
            yield _holder(f"GPU {gpu.index}", user=each.user, pid=each.pid, size=each.bytes)
    for remain in look.remains:
        yield _holder("shared memory", user=remain.user, name=remain.what, size=remain.bytes)


def _holder(
    of: str, *, user: str | None, size: int | None, pid: int | None = None, name: str | None = None
) -> dict[str, Any]:
    return {"of": of, "user": user, "pid": pid, "name": name, "bytes": size}


def _change(change: Any) -> dict[str, Any]:
    return {"set": list(change.settings), "frees_bytes": change.frees_bytes, "costs": change.costs}


def _run(run: RunMemory) -> dict[str, Any]:
    step, host = run.step, run.host
    return {
        "title": run.title,
        "world_size": host.world_size,
        "workers": host.workers,
        "verdicts": [
            {**_plain(each), "margin_bytes": each.margin_bytes, "used_share": each.used_share}
            for each in run.verdicts
        ],
        "step": {
            **_plain(step),
            "step_peak_bytes": step.step_peak_bytes,
            "peak_bytes": step.peak_bytes,
            "after_forward_bytes": step.after_forward_bytes,
            "total_bytes": step.total_bytes,
        },
        "host": {
            "rows": [{**_plain(row), "bytes": row.bytes} for row in host.rows],
            "needed_bytes": host.needed_bytes,
            "shm_bytes": host.shm_bytes,
            "pinned_bytes": host.pinned_bytes,
            "reclaimable_bytes": host.reclaimable_bytes,
            "naive_bytes": host.naive_bytes,
        },
        "freed": run.resource,
        "changes": [_plain(change) for change in run.changes],
        "notes": list(run.notes),
    }


def _past(past: PastRun) -> dict[str, Any]:
    return {
        "folder": None if past.folder is None else str(past.folder),
        **_plain(past.aftermath.end),
        "causes": [_plain(cause) for cause in past.aftermath.causes],
        "unseen": list(past.aftermath.unseen),
    }


def _tree(tree: Tree) -> dict[str, Any]:
    return {
        "pid": tree.root.pid,
        "program": program_of(tree.root),
        "groups": [_group(group) for group in tree.groups],
        "total": _group(tree.total),
    }


def _group(group: Group) -> dict[str, Any]:
    return {**_plain(group), "members": [process.pid for process in group.members]}


def _plain(value: Any) -> dict[str, Any]:
    """Return a dataclass as values of JSON."""
    return {name: _json(each) for name, each in asdict(value).items()}


def _json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _json(each) for name, each in value.items()}
    return [_json(each) for each in value] if isinstance(value, (list, tuple)) else value
