"""The checks at the end of a run, as a table for the log and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich import box
from rich.table import Table

from deblurkit.language import Language
from deblurkit.render.text import as_text
from deblurkit.training.verification import Check, as_document, as_lines

_NAMES: dict[Language, dict[str, str]] = {
    "en": {
        "loss_trend": "training loss falls",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "finite": "no NaN or Inf",
        "checkpoint_reload": "checkpoint read back",
        "throughput": "throughput",
        "slowdown": "throughput holds",
        "gpu_busy": "GPU utilisation",
        "data_wait": "data wait",
        "data_share": "data share of a step",
        "cache_hits": "cache hit rate",
        "gpu_memory": "GPU memory",
        "memory_growth": "memory is stable",
        "host_memory": "host memory",
        "cpu": "CPU utilisation",
        "disk_room": "disk space",
        "disk_wait": "disk wait",
        "promised_rate": "throughput as promised",
        "promised_memory": "GPU memory as promised",
    },
    "zh": {
        "loss_trend": "训练损失下降",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "finite": "无 NaN 或 Inf",
        "checkpoint_reload": "检查点重新加载",
        "throughput": "训练速度",
        "slowdown": "速度稳定",
        "gpu_busy": "GPU 利用率",
        "data_wait": "数据等待",
        "data_share": "数据占步长比例",
        "cache_hits": "缓存命中率",
        "gpu_memory": "GPU 显存",
        "memory_growth": "内存稳定",
        "host_memory": "系统内存",
        "cpu": "CPU 利用率",
        "disk_room": "磁盘空间",
        "disk_wait": "磁盘等待",
        "promised_rate": "速度符合承诺",
        "promised_memory": "显存符合承诺",
    },
}
_TITLES: dict[Language, str] = {"en": "Verification", "zh": "验证清单"}
_HEADINGS: dict[Language, tuple[str, str]] = {"en": ("measured", "limit"), "zh": ("实测", "阈值")}


def verification_as_text(checks: Sequence[Check], *, language: Language = "en") -> str:
    """Return a row for each check, what to do where one does not pass, and the counts in a last line."""
    table = Table(box=box.SIMPLE, show_edge=False, title=_TITLES[language], title_justify="left")
    for heading in ("", "", *_HEADINGS[language]):
        table.add_column(heading, overflow="fold")
    for check in checks:
        table.add_row(check.mark, _NAMES[language].get(check.id, check.id), check.figure, check.threshold)
    advice = [f"{check.mark} {check.id}: {check.advice}" for check in checks if check.advice]
    return as_text(table) + "".join(f"{line}\n" for line in [*advice, next(as_lines(checks))])


def verification_as_json(checks: Sequence[Check]) -> str:
    """Return one document: ``format``, ``counts`` by verdict, and ``checks``, a row each."""
    return json.dumps(as_document(checks), indent=2, ensure_ascii=False, allow_nan=False)
