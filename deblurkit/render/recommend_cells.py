"""Cells of the tables of a recommendation: quantities, a dash for what is not known, and fixed words."""

from __future__ import annotations

from deblurkit.language import Language
from deblurkit.tuning.recommend.records import Candidate, Row, Trial
from deblurkit.tuning.recommend.words import gain_words
from deblurkit.units import format_bytes, format_duration, format_ms, format_rate

NOTHING = "-"
_CHINESE = {
    "From the start to the recommendation": "终极优化组合",
    "Memory against throughput": "显存与吞吐量 (Pareto 前沿)",
    "Front": "前沿",
    "Single changes": "预期性能对比",
    "Three choices": "三种配置对比",
    "What was tried": "实测记录",
    "Why the others lost": "其余配置落选的原因",
    "Configuration": "配置",
    "For": "适用场景",
    "memory": "显存",
    "step": "步骤时间",
    "forward": "前向传播耗时",
    "samples/s": "吞吐量(samples/s)",
    "90 % interval": "90% 区间",
    "epoch": "Epoch时间",
    "gain": "相对提升",
    "training": "对训练的影响",
    "from": "来源",
    "Trial": "实测配置",
    "outcome": "结果",
    "took": "用时",
    "why": "原因",
    "start": "起始配置",
    "measured": "实测",
    "predicted": "预测",
    "same": "相同",
    "rounding": "仅舍入不同",
    "ANOTHER": "结果不同",
    "fastest": "最快",
    "balanced": "均衡",
    "least memory": "显存最少",
    "The recommendation": "推荐配置",
    "Loading": "数据加载",
    "Notes": "说明",
}
_EFFECTS = {"none": "same", "rounding": "rounding", "accuracy": "ANOTHER"}


def said(text: str, language: Language) -> str:
    """Return a title or a fixed word in a language; whatever else, as it is."""
    return _CHINESE.get(text, text) if language == "zh" else text


def size_cell(count: int | None) -> str:
    """Return bytes."""
    return NOTHING if count is None else format_bytes(count)


def ms_cell(seconds: float | None) -> str:
    """Return seconds as milliseconds."""
    return NOTHING if seconds is None else format_ms(1e3 * seconds)


def duration_cell(seconds: float | None) -> str:
    """Return seconds as a person says them."""
    return NOTHING if seconds is None else format_duration(seconds)


def gain_cell(gain: float | None) -> str:
    """Return how many times as fast."""
    return NOTHING if gain is None else gain_words(gain)


def rate_cell(row: Row) -> str:
    """Return the throughput of a row."""
    return NOTHING if row.samples_per_second is None else format_rate(row.samples_per_second)


def interval_cell(row: Row) -> str:
    """Return the interval of a throughput: ``6.10 to 6.90``."""
    return NOTHING if row.interval is None else " to ".join(map(format_rate, row.interval))


def source_cell(row: Row) -> str:
    """Return whether a throughput was measured."""
    if row.estimate is None:
        return NOTHING
    return "measured" if row.estimate.is_measured else "predicted"


def effect_cell(candidate: Candidate) -> str:
    """Return what a candidate does to training: the same sums, other digits of them, or another result."""
    return _EFFECTS[candidate.effect]


def outcome_cell(trial: Trial) -> str:
    """Return what came of a trial, and why."""
    return f"{trial.outcome}: {trial.detail}" if trial.detail else trial.outcome
