"""Which configurations take alike steps, so that one stands for all; and what was found of them, on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import deblurkit
from deblurkit.config.schema import Config, flat_values
from deblurkit.models.vrt.half import cpu_multiplies_bf16
from deblurkit.tuning.overheads import MemoryRow
from deblurkit.tuning.recommend.kept_lines import append_line, read_lines
from deblurkit.tuning.step_memory import StepMemory

OPTIMIZER = "TRAIN.OPTIM.TYPE"
BATCH = "TRAIN.BATCH_SIZE"
RECOMPUTATION = ("MODEL.VRT.USE_CHECKPOINT_ATTN", "MODEL.VRT.USE_CHECKPOINT_FFN")
ACCUMULATES = "more than one micro-step"  # what of TRAIN.GRADIENT_ACCUMULATION_STEPS a step's memory feels
NOT_FELT = (
    "SEED",
    "PROMISE",
    "LOG",
    "DATALOADER",
    "DATA.ROOT",
    "DATA.TRAIN_SPLIT",
    "DATA.VAL_SPLIT",
    "DATA.USE_PRECOMPUTED_VOXELS",
    "DATA.USE_RAM_CACHE",
    "DATA.CACHE_SIZE_GB",
    "DATA.VOXELS_ON",
    "DATA.SENSOR_NOISE",
    "DATA.AUTO_SYNTHETIC",
    "TRAIN.EPOCHS",
    "TRAIN.MAX_STEPS",
    "TRAIN.GRADIENT_ACCUMULATION_STEPS",
    "TRAIN.COMPILE_MODEL",
    "TRAIN.COMPILE_MODE",
    "TRAIN.MAX_SKIPPED_STEPS",
    "TRAIN.AUTO_HALVE_BATCH",
    "TRAIN.DEVICE",
    "TRAIN.PARALLEL",
    "TRAIN.RANK_TIMEOUT_MINUTES",
    "TRAIN.OPTIM.LR",
    "TRAIN.OPTIM.LR_SCALING",
    "TRAIN.OPTIM.BASE_BATCH_SIZE",
    "TRAIN.SCHED",
    "TEST.BATCH_SIZE",
    "TEST.NUM_WORKERS",
    "TEST.PROTOCOL",
    "TEST.QUICK_SEQUENCES",
)  # keys and sections that change nothing of a step on fake tensors; what is not named here is felt


def felt_parts(config: Config, *, but: Iterable[str] = ()) -> dict[str, Any]:
    """Return the parts of a configuration that a step on fake tensors depends on.

    Args:
        config: the whole one.
        but: keys or sections to be left out as well.
    """
    unfelt = (*NOT_FELT, *but)
    parts = {key: value for key, value in flat_values(config).items() if not _is_in(key, unfelt)}
    if ACCUMULATES not in unfelt:
        parts[ACCUMULATES] = config.train.gradient_accumulation_steps > 1
    return parts


def class_key(config: Config, *, but: Iterable[str] = ()) -> str:
    """Return `felt_parts` as text: the same for configurations whose steps are alike."""
    return json.dumps(felt_parts(config, but=but), sort_keys=True)


def _is_in(key: str, names: Iterable[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


class KeptResults:
    """What was found out on fake tensors earlier, by all that it depends on.

    What has a teacher in it is not kept: its checkpoint may be another one by now.

    Args:
        path: of the file; None keeps nothing.
        about: what the results depend on beside a configuration and the versions of the software.
        but: keys or sections that they do not depend on, beside NOT_FELT.
    """

    def __init__(self, path: Path | None, *, about: Sequence[Any], but: Iterable[str] = ()) -> None:
        self._path, self._but = path, tuple(but)
        self._place = [
            *about,
            torch.__version__,
            deblurkit.__version__,
            cpu_multiplies_bf16(),  # VRT takes float32 where it does not
            os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        ]
        lines = [] if path is None else read_lines(path)
        self._known = {line.get("key"): line.get("found") for line in lines}

    def find(self, config: Config) -> Any:
        """Return the plain values that were kept for a configuration; None where there are none."""
        return None if _has_teacher(config) else self._known.get(self._key(config))

    def add(self, config: Config, found: Mapping[str, Any]) -> None:
        """Keep plain values for a configuration, where that is possible."""
        if self._path is not None and not _has_teacher(config):
            append_line(self._path, {"key": self._key(config), "found": found})

    def _key(self, config: Config) -> str:
        text = json.dumps([class_key(config, but=self._but), *self._place])
        return hashlib.sha256(text.encode()).hexdigest()


def step_from(values: Any) -> StepMemory | None:
    """Return a step's memory from what ``asdict`` and JSON have made of it; None where that is not whole."""
    try:
        return StepMemory(
            device_kind=values["device_kind"],
            source=values["source"],
            clip_shape=tuple(values["clip_shape"]),
            rows=_rows(values["rows"]),
            after_forward=_rows(values["after_forward"]),
            phases={str(name): int(size) for name, size in values["phases"].items()},
            overheads=_rows(values["overheads"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _rows(values: Iterable[Mapping[str, Any]]) -> tuple[MemoryRow, ...]:
    return tuple(MemoryRow(row["name"], row["bytes"], row["source"]) for row in values)


def _has_teacher(config: Config) -> bool:
    return config.train.distill.teacher is not None
