"""What the tags of TensorBoard mean: the names that other trainers give to the numbers they log."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deblurkit.timing.records import clean_name

TRAINING, VALIDATION, QUICK_LOOK = "train", "validation", "quick_look"
_SPLITS = {
    "train": TRAINING,
    "training": TRAINING,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "eval": VALIDATION,
    "evaluation": VALIDATION,
    "test": VALIDATION,
    "quick_look": QUICK_LOOK,
}
_SPLIT = re.compile(rf"({'|'.join(_SPLITS)})(?:[ _.-]+(.+))?", re.IGNORECASE)
_MOMENT = re.compile(r"(.+?)[ _.-]+(step|epoch)", re.IGNORECASE)  # as Lightning ends the names of averages
_GROUPS = {"losses", "loss", "metrics", "metric", "time", "optim", "optimizer", "perf"}
_QUALITY = {"psnr_db", "ssim", "lpips"}
_LOSS_PART = re.compile(r"(?:l|loss)_(.+)|(.+)_loss", re.IGNORECASE)
_MS, _PERCENT = 1e3, 1e-2
_LEARNING_RATE = re.compile(r"(lr|learning_rate)(_.*|\d*)")
# By the last part of a tag, in lower case: the name that the rules know, and what the value is multiplied by.
_KNOWN: dict[str, tuple[str, float]] = {
    **dict.fromkeys(
        ("loss", "total_loss", "loss_total", "l_total", "l_all", "g_loss", "loss_all"), ("loss", 1.0)
    ),
    **dict.fromkeys(("psnr", "psnr_db"), ("psnr_db", 1.0)),
    "ssim": ("ssim", 1.0),
    "lpips": ("lpips", 1.0),
    **dict.fromkeys(("grad_norm", "gradient_norm", "total_norm", "grad_2_0_norm_total"), ("grad_norm", 1.0)),
    **dict.fromkeys(
        ("samples_per_second", "samples_per_sec", "images_per_sec", "images_per_second"),
        ("samples_per_second", 1.0),
    ),
    "data_ms": ("data_ms", 1.0),
    "data_time": ("data_ms", _MS),  # seconds, of BasicSR and mmengine
    **dict.fromkeys(("step_ms", "iter_ms", "batch_ms"), ("printed_ms", 1.0)),
    **dict.fromkeys(("time", "iter_time", "step_time", "batch_time"), ("printed_ms", _MS)),
    "allocated_bytes_all_current": ("cuda_allocated_bytes", 1.0),  # of Lightning's DeviceStatsMonitor
    "reserved_bytes_all_current": ("cuda_reserved_bytes", 1.0),
    "cpu_percent": ("cpu_utilisation", _PERCENT),
    "cpu_vm_percent": ("host_memory_share", _PERCENT),
    **{
        name: (name, 1.0)
        for name in (
            "printed_ms",
            "host_memory_share",
            "process_memory_bytes",
            "cuda_reserved_bytes",
            "cuda_allocated_bytes",
            "cache_hit_rate",
            "gpu_utilisation",
            "cpu_utilisation",
            "epoch",
        )
    },
}


@dataclass(frozen=True)
class Meaning:
    """What a tag stands for.

    Attributes:
        name: as `tables.RunLog.scalars` calls it, or the tag itself where nothing is known about it.
        scale: what values are multiplied by.
        split: ``train``, ``validation``, ``quick_look``, or empty where the tag does not say.
    """

    name: str
    scale: float = 1.0
    split: str = ""


def meaning_of(tag: str) -> Meaning:
    """Return what a tag stands for: ``train/loss``, ``losses/l_pix``, ``val_psnr`` and others like them."""
    own = clean_name(tag)
    split, parts = _without_split(own.split("/"))
    known = _known(parts)
    if known is None:
        return Meaning("/".join(parts) if split == TRAINING and parts else own, split=split)
    name, scale, inside = known
    usual = VALIDATION if name in _QUALITY else TRAINING
    aside = [] if split in ("", usual) else [split]
    return Meaning("/".join([name, *aside, *inside]), scale, split)


def _without_split(parts: list[str]) -> tuple[str, list[str]]:
    """Return which part of the data a tag is of, and the tag's parts without the word that says it."""
    for number, part in enumerate(parts):
        match = _SPLIT.fullmatch(part)
        if match is not None:
            rest = [match[2]] if match[2] else []
            return _SPLITS[match[1].lower()], parts[:number] + rest + parts[number + 1 :]
    return "", parts


def _known(parts: list[str]) -> tuple[str, float, list[str]] | None:
    """Return the name that the rules know, its scale, and which of several it is; None if it is none."""
    if not parts:
        return None
    if _LEARNING_RATE.fullmatch(_word(parts[0])):
        return "learning_rate", 1.0, parts[1:]
    *before, leaf = parts
    moment = _MOMENT.fullmatch(leaf)
    mean = ["epoch"] if moment is not None and moment[2].lower() == "epoch" else []
    leaf = leaf if moment is None else moment[1]
    groups = {_word(part) for part in before}
    others = [part for part in before if _word(part) not in _GROUPS]
    if (found := _KNOWN.get(_word(leaf))) is not None:
        return *found, [*others, *mean]
    part = _LOSS_PART.fullmatch(leaf)
    if part is None and not groups & {"loss", "losses"}:
        return None
    return "loss", 1.0, [*others, leaf if part is None else part[1] or part[2], *mean]


def _word(part: str) -> str:
    return re.sub(r"[ .-]+", "_", part.lower())
