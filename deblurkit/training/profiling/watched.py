"""Which modules of a network a profile watches: those with rows, and what is made again inside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from deblurkit.errors import UsageError
from deblurkit.timing.clock import HostClock
from deblurkit.timing.module_rows import Language, module_rows
from deblurkit.timing.module_times import RECOMPUTE, ModuleTimes
from deblurkit.training.profiling.partition import Names
from deblurkit.training.profiling.workplace import Workplace

_FEED_FORWARD = re.compile(r"^stage.*\.blocks\.\d+\.(mlp|norm2)(\.|$)|^stage\d\.pa_fuse(\.|$)")
_ATTENTION = re.compile(r"^stage.*\.blocks\.\d+\.(attn|norm1)(\.|$)|^(spike_attention|fusion)\.")
_ONCE_MORE = "once more:"  # begins the rows of modules that are only watched for being made again


@dataclass(frozen=True)
class Rows:
    """What is watched.

    Attributes:
        watched: the row of each module that is timed, hidden ones included.
        shown: the modules of each row that is shown, by path.
        names: how the rows of intervals are to be shown.
    """

    watched: Mapping[nn.Module, str]
    shown: Mapping[str, tuple[str, ...]]
    names: Names

    def modules_of(self, row: str) -> list[nn.Module]:
        """Return the modules of a row."""
        return [module for module, name in self.watched.items() if name == row]


def find_rows(place: Workplace, *, depth: int, pattern: str | None, language: Language) -> Rows:
    """Return what to watch, found by a step in which every module is.

    Raises:
        UsageError: if the pattern finds no module that is called.
    """
    called, again = _seen_in_a_step(place)
    paths = {module: path for path, module in place.model.named_modules()}
    rows = module_rows(
        place.model,
        depth=None if pattern is not None else depth,
        pattern=pattern,
        language=language,
        called={module for module, path in paths.items() if path in called},
    )
    if not rows and pattern is not None:
        some = ", ".join(sorted(called)[:3])
        raise UsageError(f"--modules {pattern}: finds none of the {len(called)} modules, such as {some}")
    return rows_with_recompute(place.model, rows, again=again)


def rows_with_recompute(model: nn.Module, rows: Mapping[nn.Module, str], *, again: Iterable[str]) -> Rows:
    """Return the rows to watch, with those modules that are made again where no row of their own shows it.

    Args:
        model: the network.
        rows: of the modules that are to be shown.
        again: paths of the modules that run again in the backward pass.
    """
    modules = dict(model.named_modules())
    paths = {module: path for path, module in modules.items()}
    row_at = {paths[module]: row for module, row in rows.items()}
    shown: dict[str, tuple[str, ...]] = {}
    for path, row in row_at.items():
        shown[row] = (*shown.get(row, ()), path)
    repeated = set(again)
    kinds = {row_at[path]: kind_of(path) for path in repeated if path in row_at}
    hidden: dict[str, str] = {}
    extra: dict[nn.Module, str] = {}
    for path in sorted(repeated - row_at.keys()):
        if any(above in repeated for above in _above(path)):
            continue
        name = f"{_ONCE_MORE}{path}"
        extra[modules[path]] = name
        hidden[name] = next((row_at[above] for above in _above(path) if above in row_at), "")
        kinds[name] = kind_of(path)
    return Rows({**rows, **extra}, shown, Names(hidden, kinds))


def kind_of(path: str) -> str:
    """Return the branch that a module belongs to: ``attention`` or ``feed_forward`` of VRT, or ``other``."""
    if _FEED_FORWARD.search(path):
        return "feed_forward"
    return "attention" if _ATTENTION.search(path) else "other"


def _seen_in_a_step(place: Workplace) -> tuple[set[str], set[str]]:
    """Return the paths of the modules that a micro-step calls, and of those that it makes again."""
    clock = HostClock()
    every = {module: path for path, module in place.model.named_modules() if path}
    times = ModuleTimes(every, clock)
    try:
        (record,) = place.take_steps(1, clock, module_times=times, accumulation=1)
    finally:
        times.remove()
    names = {span.name for span in record.spans}
    return _below("forward/", names), _below(f"backward/{RECOMPUTE}/", names)


def _below(prefix: str, names: Iterable[str]) -> set[str]:
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def _above(path: str) -> list[str]:
    """Return the paths of the modules that a module lies in, nearest first."""
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]
