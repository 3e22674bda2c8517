"""What a timed step is: names with a hierarchy, spans, and the finished step."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from deblurkit.timing.clock import Mark

UNACCOUNTED = "unaccounted"
MEMORY = "memory"  # kinds of notes
MEMORY_WARNING = "memory_warning"


class Span(NamedTuple):
    """A named interval between two marks of one clock.

    Attributes:
        name: where its time is counted.
        start, end: its marks.
        weight: 1, or -1 where its time is taken from that name, as it is counted elsewhere.
    """

    name: str
    start: Mark
    end: Mark
    weight: int = 1


@dataclass(frozen=True)
class StepTiming:
    """One finished step.

    Attributes:
        step: number of the step, from 1.
        unix_time: wall-clock time at its end, in seconds.
        wall_ms: from the end of the step before to the end of this one.
        milliseconds: inclusive time by full name; ``parent/child`` lies inside ``parent``.
        clock: that told these times; None for the log's own.
    """

    step: int
    unix_time: float
    wall_ms: float
    milliseconds: Mapping[str, float]
    clock: str | None = None

    @functools.cached_property
    def accounted_ms(self) -> float:
        """The sum of the top-level rows."""
        return sum([ms for name, ms in self.milliseconds.items() if "/" not in name])

    @property
    def total_ms(self) -> float:
        """What the rows are a share of: the wall time, or their sum where they overlap and exceed it."""
        return max(self.wall_ms, self.accounted_ms)

    @property
    def unaccounted_ms(self) -> float:
        """Wall time that no top-level row covers; 0 where rows overlap."""
        return max(0.0, self.wall_ms - self.accounted_ms)


@dataclass(frozen=True)
class Beside:
    """Time that is in no step: a validation, a checkpoint, or what other processes do meanwhile.

    Attributes:
        name: of what it was.
        seconds: in all.
        count: how often it was done in them.
        after_step: number of the step before it.
    """

    name: str
    seconds: float
    count: int
    after_step: int


@dataclass(frozen=True)
class Note:
    """What is told between two steps and is no time: a look at memory, say.

    Attributes:
        kind: by which programs find it; none of the keys that lines of the log have already.
        content: plain values.
        line: the same for people; empty where only programs are told.
        after_step: number of the step before it.
        unix_time: wall-clock time, in seconds.
    """

    kind: str
    content: Mapping[str, object]
    line: str
    after_step: int
    unix_time: float


@functools.lru_cache(maxsize=4096)
def row_name(name: str) -> str:
    """Return ``name`` as that of a row: clean, and not that of the row which is always worked out."""
    clean = clean_name(name)
    return f"{clean} (logged)" if clean == UNACCOUNTED else clean


@functools.lru_cache(maxsize=4096)
def clean_name(name: str) -> str:
    """Return ``name`` as a path of one line: no empty parts, no control characters."""
    printable = "".join(char if char.isprintable() else " " for char in name)
    parts = [part.strip() for part in printable.split("/")]
    return "/".join(part for part in parts if part) or "unnamed"


def with_parents(milliseconds: Mapping[str, float]) -> dict[str, float]:
    """Return the rows with every parent that was not logged itself added as the sum of its children."""
    complete = dict(milliseconds)
    for parent, children in _missing_parents(tuple(milliseconds)):
        complete[parent] = sum(complete[child] for child in children)
    return complete


@functools.lru_cache(maxsize=64)  # the same names come step after step
def children_of(names: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Return the names that lie directly inside each, in their order; those of the top level under ``""``."""
    children: dict[str, list[str]] = {}
    for name in names:
        children.setdefault(name.rpartition("/")[0], []).append(name)
    return {parent: tuple(inside) for parent, inside in children.items()}


@functools.lru_cache(maxsize=64)
def _missing_parents(names: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return (parent, children) of every parent that is not there itself, the deepest first."""
    missing = {name[:at] for name in names for at in _slashes(name)} - set(names)
    inside = children_of((*names, *sorted(missing)))
    return tuple((parent, inside[parent]) for parent in sorted(missing, key=_depth, reverse=True))


def _depth(name: str) -> int:
    return name.count("/")


def _slashes(name: str) -> list[int]:
    return [at for at, char in enumerate(name) if char == "/"]
