"""How many loader workers a machine can carry, and how they are shared out among its GPUs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deblurkit import cgroups

if TYPE_CHECKING:
    from deblurkit.config.sections.data import DataLoaderSection

AUTO_SHARE = 0.8  # of the CPUs, for "auto": the rest is left to the system and the training processes
AUTO_FLOOR = 4  # workers per GPU that "auto" does not go under while there are CPUs for them


@dataclass(frozen=True)
class WorkerPlan:
    """Loader workers of a node.

    Attributes:
        cpus: CPUs that this process may use.
        gpus: training processes that share them (1 on a CPU).
        total: what TOTAL_WORKERS comes to.
        train: training workers of each GPU.
        val: validation workers of each GPU.
    """

    cpus: int
    gpus: int
    total: int
    train: int
    val: int


def plan_workers(section: DataLoaderSection, *, gpus: int, cpus: int) -> WorkerPlan:
    """Return the workers of each GPU as DATALOADER asks for them.

    ``auto`` takes 80 % of the CPUs and gives every GPU an equal part, at least 4 while that many CPUs are
    there for it; validation gets half of what training gets.
    """
    total = _total(section.total_workers, cpus=cpus)
    share = total // gpus
    if section.total_workers == "auto":
        share = max(share, min(AUTO_FLOOR, max(1, cpus // gpus)))
    train = share if section.train_workers == "auto" else int(section.train_workers)
    val = train // 2 if section.val_workers == "auto" else int(section.val_workers)
    return WorkerPlan(cpus=cpus, gpus=gpus, total=total, train=train, val=val)


def _total(setting: int | str, *, cpus: int) -> int:
    if isinstance(setting, int):
        return setting
    share = AUTO_SHARE if setting == "auto" else float(setting.removeprefix("cpu*"))
    return max(1, int(cpus * share + 1e-9))  # 40 * 0.7 is 27.99… in floating point


def available_cpus(*, cgroup_root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> int:
    """Return the CPUs that this process may use: affinity, and every cgroup quota up the tree."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _cgroup_quotas(cgroup_root, membership)]
    return max(1, min([cpus, *quotas]))


def _cgroup_quotas(root: Path, membership: Path) -> Iterator[float]:
    """Yield the CPU quotas of this process's cgroups, in CPUs; version 2 and version 1."""
    for group in cgroups.own_cgroups("cpu", root=root, membership=membership):
        if group.version == 2:
            yield from _quota_v2(group.folder / "cpu.max")
        else:
            yield from _quota_v1(group.folder)


def _quota_v2(path: Path) -> Iterator[float]:
    try:
        quota, period = path.read_text().split()
    except (OSError, ValueError):
        return
    if quota != "max":
        yield int(quota) / int(period)


def _quota_v1(folder: Path) -> Iterator[float]:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return
    if quota > 0:
        yield quota / period
