"""Each millisecond in one place: the time of a row's own, and rows that were logged beside their parent."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from deblurkit.timing.records import children_of

# What the standard phases of a step are called, in the form that ``name_key`` gives a name.
ROLES: dict[str, frozenset[str]] = {
    "data": frozenset(
        (
            "data",
            "dataload",
            "dataloading",
            "dataloader",
            "datawait",
            "数据",
            "数据加载",
            "数据读取",
            "数据等待",
        )
    ),
    "transfer": frozenset(("transfer", "h2d", "todevice", "datatransfer", "数据传输", "数据拷贝")),
    "forward": frozenset(("forward", "fwd", "forwardpass", "前向", "前向传播", "前向计算")),
    "loss": frozenset(("loss", "losscomputation", "损失", "损失计算", "loss计算", "计算损失")),
    "backward": frozenset(("backward", "bwd", "backwardpass", "反向", "反向传播", "反向计算")),
    "all_reduce": frozenset(
        ("allreduce", "ddpallreduce", "gradientsync", "梯度同步", "ddp同步", "ddp梯度同步")
    ),
    "optimizer": frozenset(
        (
            "optimizer",
            "optim",
            "optimizerstep",
            "优化器",
            "优化器更新",
            "参数更新",
            "optimizer更新",
            "优化器步骤",
        )
    ),
}
_VRT = frozenset(("vrt", "vrt处理", "vrt处理与融合"))
_FUSION = frozenset(("vrt融合", "融合", "vrtfusion", "fusion"))
_SPIKE = frozenset(
    ("spike编码器", "spikeencoder", "spikeencoder3d", "spike时间自注意力", "spiketsa", "spiketemporalsa")
)
# Which rows the seed's scripts log beside what they contain; the innermost container first.
CONTAINERS: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (_VRT, _FUSION),
    (ROLES["forward"], _VRT | _FUSION | _SPIKE),
)

LEEWAY = 0.02  # how far parts may exceed their whole
_LARGEST_SUM = 3
_MOST_ROWS = 12


def role_of(name: str) -> str | None:
    """Return which standard phase a top-level name stands for, in English or Chinese; None for others."""
    key = name_key(name)
    return next((role for role, keys in ROLES.items() if key in keys), None)


def name_key(name: str) -> str:
    """Return a name without case, separators and the words that only say that it is a time."""
    key = re.sub(r"[\s_\-]+", "", name.casefold())
    return re.sub(r"(总耗时|耗时|总时间|时间|totaltime|time|total|ms)+$", "", key) or key


def known_contents(
    names: Sequence[str], containers: frozenset[str], contents: frozenset[str]
) -> tuple[str, tuple[str, ...]] | None:
    """Return the first of ``names`` that is a container, and its contents; None without either."""
    parent = next((name for name in names if name_key(name) in containers), None)
    children = tuple(name for name in names if name_key(name) in contents and name != parent)
    return (parent, children) if parent is not None and children else None


def exclusive(inclusive: Mapping[str, float]) -> dict[str, float]:
    """Return the time that each row does not share with its children; 0 where these overlap and exceed it.

    Args:
        inclusive: time by full name, every parent among them (`records.with_parents`).
    """
    inside = children_of(tuple(inclusive))
    return {
        name: max(0.0, time - sum(inclusive[child] for child in inside.get(name, ())))
        for name, time in inclusive.items()
    }


def logged_beside_parent(totals: Mapping[str, float], wall: float) -> list[tuple[str, tuple[str, ...]]]:
    """Return (parent, children) of top-level rows that must lie inside another one; empty where none need to.

    Rows that follow one another cannot take longer than the step. Where they do, rows whose names are known
    (`CONTAINERS`) go inside first; then the fewest others without which the rest fits, inside the shortest
    row that can hold them. Standard phases never contain each other. Where that does not explain the excess
    nothing is returned: rows of several threads overlap too.

    Args:
        totals: time of every top-level row, summed over the same steps as ``wall``.
        wall: time of those steps.
    """
    rows = dict(totals)
    found: list[tuple[str, tuple[str, ...]]] = []
    for containers, contents in CONTAINERS:
        known = known_contents(list(rows), containers, contents)
        if _excess(rows, wall) and known is not None and _fits(rows, *known):
            found.append(known)
            rows = _without(rows, known[1])
    if _excess(rows, wall):
        more = next(_explanations(rows, wall), None)
        if more is None:
            return []
        found.append(more)
    return found


def _explanations(rows: Mapping[str, float], wall: float) -> Iterator[tuple[str, tuple[str, ...]]]:
    longest = sorted(rows, key=lambda name: -rows[name])
    plain = [name for name in longest if role_of(name) is None][:_MOST_ROWS]
    for size in range(1, _LARGEST_SUM + 1):
        for children in itertools.combinations(plain, size):
            if _excess(_without(rows, children), wall):
                continue
            for parent in reversed(longest):
                if parent not in children and _fits(rows, parent, children):
                    yield parent, children


def _excess(rows: Mapping[str, float], wall: float) -> bool:
    return sum(rows.values()) > wall * (1 + LEEWAY)


def _fits(rows: Mapping[str, float], parent: str, children: Iterable[str]) -> bool:
    return sum(rows[child] for child in children) <= rows[parent] * (1 + LEEWAY)


def _without(rows: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    left_out = set(names)
    return {name: time for name, time in rows.items() if name not in left_out}
