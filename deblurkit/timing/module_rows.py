"""Which modules of a network get rows of their own, and what the rows are called.

Rows lie inside one another by ``/``, as the modules do. VRT's have the names that its logs have always had;
other networks' modules keep their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

Language = Literal["en", "zh"]

_VRT_PARTS = {"stage1", "stage8", "conv_after_body"}  # no other network has these children

_WORDS: dict[Language, dict[str, str]] = {
    "zh": {
        "vrt": "VRT处理",
        "encoder": "Spike编码器",
        "attention": "Spike时间自注意力",
        "fusion": "VRT融合",
        "flow": "光流",
        "scale": "尺度{}",
        "embed": "输入投影",
        "down": "尺度{} 下采样",
        "residual": "尺度{} 残差",
    },
    "en": {
        "vrt": "VRT",
        "encoder": "Spike encoder",
        "attention": "Spike temporal attention",
        "fusion": "Fusion",
        "flow": "Optical flow",
        "scale": "Scale {}",
        "embed": "Embedding",
        "down": "Scale {} downsampling",
        "residual": "Scale {} residual",
    },
}


@dataclass(frozen=True)
class _Level:
    """A part of a row's name, and the path of the module that it stands for; None for a group of modules."""

    label: str
    path: str | None


def module_rows(
    model: nn.Module,
    *,
    depth: int | None = None,
    pattern: str | None = None,
    language: Language = "en",
    called: Collection[nn.Module] | None = None,
) -> dict[nn.Module, str]:
    """Return the row of each module that is to be timed, in the order of the module tree.

    Several modules may share a row: at depth 1 all of VRT's stages are ``VRT``.

    Args:
        model: whose modules are looked at; itself it has no row, it is the forward pass.
        depth: levels of the rows' names; ``VRT/Stage1`` has two.
        pattern: a regular expression to find in a module's path, ``stage1.residual_group1``, or in its row;
            instead of ``depth``.
        language: of the names that VRT's parts have.
        called: modules that a forward pass calls, where that is known. Otherwise those that cannot be
            called, such as lists, are left out, and a module that others bypass gets a row that stays empty.

    Raises:
        ValueError: if not exactly one of ``depth`` and ``pattern`` is given, or ``depth`` is below 1.
        re.error: if ``pattern`` is none.
    """
    if (depth is None) == (pattern is None):
        raise ValueError("expected either a depth or a pattern")
    if depth is not None and depth < 1:
        raise ValueError(f"depth: expected at least 1, got {depth}")
    modules = {path: module for path, module in model.named_modules() if path}
    wanted = {path: module for path, module in modules.items() if _can_be_called(module, called)}
    levels = dict(_levels(model, wanted, language))
    if pattern is None:
        assert depth is not None
        return {wanted[path]: name for path, name in _down_to(depth, levels)}
    return {wanted[path]: name for path, name in _that_match(re.compile(pattern), levels)}


def _can_be_called(module: nn.Module, called: Collection[nn.Module] | None) -> bool:
    from torch import nn

    if called is not None:
        return module in called
    return type(module).forward is not nn.Module.forward


def _levels(
    model: nn.Module, wanted: Collection[str], language: Language
) -> Iterator[tuple[str, tuple[_Level, ...]]]:
    """Yield the levels of each module's row name; what cannot be called adds no level."""
    is_vrt = {name for name, _ in model.named_children()} >= _VRT_PARTS
    vrt_labels = _vrt_labels(language) if is_vrt else _no_labels
    known: dict[str, tuple[_Level, ...]] = {}
    for path in wanted:
        parent = next((above for above in _ancestors(path) if above in known), "")
        *groups, label = vrt_labels(path) or (_own_label(path, parent),)
        above = () if groups else known.get(parent, ())
        known[path] = (*above, *(_Level(group, None) for group in groups), _Level(label, path))
        yield path, known[path]


def _ancestors(path: str) -> Iterator[str]:
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def _own_label(path: str, parent: str) -> str:
    """Return a module's path inside the one above it."""
    own = path[len(parent) + 1 :] if parent else path
    return own.replace("/", "_")


def _no_labels(path: str) -> tuple[str, ...]:
    return ()


def _vrt_labels(language: Language) -> Callable[[str], tuple[str, ...]]:
    """Return what gives a part of VRT its label, at the top after its group; () for other modules."""
    words = _WORDS[language]
    rules: list[tuple[str, Callable[[re.Match[str]], tuple[str, ...]]]] = [
        (r"stage(\d+)", lambda m: (words["vrt"], f"Stage{m[1]}")),
        (r"spynet", lambda m: (words["vrt"], words["flow"])),
        (r"conv_first|norm|conv_after_body|conv_last", lambda m: (words["vrt"], m[0])),
        (r"stage8\.0", lambda m: ("entry",)),
        (r"stage8\.(\d+)", lambda m: (f"group{m[1]}",)),
        (r"spike_encoder", lambda m: (words["encoder"],)),
        (r"spike_encoder\.embed", lambda m: (words["embed"],)),
        (r"spike_encoder\.downs\.(\d+)", lambda m: (words["down"].format(int(m[1]) + 1),)),
        (r"spike_encoder\.blocks\.(\d+)", lambda m: (words["residual"].format(m[1]),)),
        (r"spike_attention\.(\d+)", lambda m: (words["attention"], words["scale"].format(m[1]))),
        (r"spike_attention\.\d+\.mlp", lambda m: ("FFN",)),
        (r"fusion\.(\d+)", lambda m: (words["fusion"], f"Stage{int(m[1]) + 1}")),
    ]
    compiled = [(re.compile(rule), labels) for rule, labels in rules]

    def label(path: str) -> tuple[str, ...]:
        for rule, labels in compiled:
            match = rule.fullmatch(path)
            if match:
                return labels(match)
        return ()

    return label


def _down_to(depth: int, levels: dict[str, tuple[_Level, ...]]) -> Iterator[tuple[str, str]]:
    """Yield (path, row) of modules whose row has at most ``depth`` levels, groups cut there."""
    for path, row in levels.items():
        is_top = sum(level.path is not None for level in row) == 1
        if len(row) <= depth or is_top:
            yield path, "/".join(level.label for level in row[:depth])


def _that_match(pattern: re.Pattern[str], levels: dict[str, tuple[_Level, ...]]) -> Iterator[tuple[str, str]]:
    """Yield (path, row) of modules found by the pattern; what lies between two of them is joined by dots."""
    chosen = {
        path
        for path, row in levels.items()
        if pattern.search(path) or pattern.search("/".join(level.label for level in row))
    }
    for path in levels:
        if path not in chosen:
            continue
        name = ""
        for level in levels[path]:
            name += level.label + ("/" if level.path is None or level.path in chosen else ".")
        yield path, name[:-1]
