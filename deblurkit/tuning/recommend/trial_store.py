"""Trials kept from one search to the next: what was measured on this machine need not be measured again."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from deblurkit import __version__
from deblurkit.config.schema import Config, flat_values
from deblurkit.tuning.recommend.kept_lines import append_line, read_lines
from deblurkit.tuning.recommend.records import Budget, Candidate, Trial

# What changes nothing of a step's time or memory: keys, or sections by their dot at the end.
_NOT_OF_A_STEP = (
    "SEED",
    "LOG.",
    "TEST.",
    "PROMISE.",
    "DATA.VAL_SPLIT",
    "DATA.AUTO_SYNTHETIC",
    "DATA.K",  # an older name of another key
    "MODEL.PRETRAINED",
    "MODEL.VRT_CFG",
    "DATALOADER.VAL_WORKERS",
    "DATALOADER.VAL_PREFETCH_FACTOR",
    "DATALOADER.PERSISTENT_WORKERS",
    "TRAIN.EPOCHS",
    "TRAIN.MAX_STEPS",
    "TRAIN.VAL_BATCH_SIZE",
    "TRAIN.MAX_SKIPPED_STEPS",
    "TRAIN.AUTO_HALVE_BATCH",
    "TRAIN.DEVICE",  # the hardware says it
    "TRAIN.RANK_TIMEOUT_MINUTES",
    "TRAIN.SCHED.",
    "TRAIN.OPTIM.LR",
    "TRAIN.OPTIM.LR_SCALING",
    "TRAIN.OPTIM.BASE_BATCH_SIZE",
)
# Nor do these where clips are random.
_OF_DATA = (
    "DATA.ROOT",
    "DATA.TRAIN_SPLIT",
    "DATA.USE_RAM_CACHE",
    "DATA.CACHE_SIZE_GB",
    "DATA.VOXELS_ON",
    "DATA.USE_PRECOMPUTED_VOXELS",
    "DATA.SENSOR_NOISE.",
    "DATALOADER.",
)
_SAME = 1.01  # times as much memory as before is the same
_LIMITS = ("device_bytes", "host_bytes")


class TrialStore:
    """Trials by what they depend on: configuration, hardware, versions and, where it ended them, the budget.

    Args:
        path: of the file; None keeps them while the object lives.
        budget: that trials are made with.
        use_data: whether they take clips by the run's loader.
        follow_memory: whether a trial is only of use with the peak of its tensors.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        budget: Budget | None = None,
        use_data: bool = False,
        follow_memory: bool = False,
    ) -> None:
        self._path, self._budget = path, budget or Budget()
        self._use_data, self._follow_memory = use_data, follow_memory
        self._kept: dict[str, list[dict[str, Any]]] = {}
        for line in read_lines(path) if path is not None else ():
            self._note(line)

    def find(self, candidate: Candidate, hardware: str) -> Trial | None:
        """Return the newest trial that tells what one would give now, None where there is none.

        What was measured counts where it held no more than the budget gives; out of memory, or killed for
        want of it, where there is no more memory.
        """
        for line in reversed(self._kept.get(self._digest(candidate, hardware), [])):
            trial = _trial_in(line.get("trial"))
            if trial is not None and self._counts(trial, _budget_in(line)):
                return replace(trial, key=candidate.key, is_cached=True)
        return None

    def add(self, candidate: Candidate, hardware: str, trial: Trial) -> None:
        """Keep a trial, but for one whose cause may be gone tomorrow: it took too long, or has failed."""
        if not _lasts(trial) or trial.is_cached:
            return
        budget = asdict(self._budget)
        limits = {name: budget[name] for name in _LIMITS}
        line = {
            "key": self._digest(candidate, hardware),
            "hardware": hardware,
            "limits": limits,
            "trial": asdict(trial),
        }
        self._note(line)
        if self._path is not None:
            append_line(self._path, line)

    def _note(self, line: dict[str, Any]) -> None:
        if isinstance(line.get("key"), str):
            self._kept.setdefault(line["key"], []).append(line)

    def _digest(self, candidate: Candidate, hardware: str) -> str:
        parts = {
            "config": step_values(candidate.config, use_data=self._use_data),
            "use_data": self._use_data,
            "hardware": hardware,
            "threads": torch.get_num_threads(),
            "versions": [platform.python_version(), torch.__version__, __version__],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _counts(self, trial: Trial, before: Budget) -> bool:
        now = self._budget
        if not _lasts(trial):
            return False
        if trial.outcome == "measured":
            is_whole = trial.peak_bytes is not None or not self._follow_memory
            return is_whole and _is_within(trial, now)
        return _no_more(now.device_bytes, before.device_bytes) and _no_more(now.host_bytes, before.host_bytes)


def step_values(config: Config, *, use_data: bool) -> dict[str, Any]:
    """Return the values of a configuration that a step's time and memory depend on, by dotted name.

    Args:
        config: the whole of it.
        use_data: whether clips come by the run's loader.
    """
    left_out = _NOT_OF_A_STEP if use_data else (*_NOT_OF_A_STEP, *_OF_DATA)
    values = {key: value for key, value in flat_values(config).items() if not _is_among(key, left_out)}
    if "DATA.ROOT" in values:
        values["DATA.ROOT"] = str(config.data.root.absolute())
    return values


def _lasts(trial: Trial) -> bool:
    """Return whether a trial would come to the same tomorrow; a busy machine may end one too."""
    return trial.outcome in ("measured", "out of memory") or trial.ran_out is not None


def _is_among(key: str, names: tuple[str, ...]) -> bool:
    return any(key.startswith(name) if name.endswith(".") else key == name for name in names)


def _is_within(trial: Trial, budget: Budget) -> bool:
    """Return whether a trial that was measured would be measured with this budget too."""
    return _at_most(trial.peak_bytes or 0, budget.device_bytes) and _at_most(
        trial.host_bytes or 0, budget.host_bytes
    )


def _at_most(size: float | None, bound: float | None) -> bool:
    """Return whether a size is within a bound; None is without bound for both."""
    return bound is None or (size is not None and size <= bound)


def _no_more(now: int | None, before: int | None) -> bool:
    """Return whether there is no more memory than before, but for what others take and give at any time."""
    return _at_most(now, None if before is None else _SAME * before)


def _budget_in(line: Mapping[str, Any]) -> Budget:
    limits = line.get("limits")
    known = limits if isinstance(limits, dict) else {}
    return Budget(**{name: known[name] for name in _LIMITS if name in known})


def _trial_in(values: Any) -> Trial | None:
    """Return the trial that was kept, None where it is not one of this version's."""
    try:
        trial = Trial(**{**values, "step_seconds": tuple(map(float, values["step_seconds"]))})
        is_whole = isinstance(trial.outcome, str) and (trial.outcome != "measured" or trial.step_seconds)
        return trial if is_whole else None
    except (TypeError, ValueError, KeyError):
        return None
