"""What a timed step is: names with a hierarchy, spans, and the finished step."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from deblurkit.timing.clock import Mark

UNACCOUNTED = "unaccounted"


@dataclass(frozen=True)
class Span:
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
    """

    step: int
    unix_time: float
    wall_ms: float
    milliseconds: Mapping[str, float]

    @property
    def accounted_ms(self) -> float:
        """The sum of the top-level rows."""
        return sum(ms for name, ms in self.milliseconds.items() if "/" not in name)

    @property
    def total_ms(self) -> float:
        """What the rows are a share of: the wall time, or their sum where they overlap and exceed it."""
        return max(self.wall_ms, self.accounted_ms)

    @property
    def unaccounted_ms(self) -> float:
        """Wall time that no top-level row covers; 0 where rows overlap."""
        return max(0.0, self.wall_ms - self.accounted_ms)


@dataclass
class Statistics:
    """Running count, sum, least and most of one row over the steps that had it, in milliseconds."""

    count: int = 0
    total: float = 0.0
    least: float = field(default=float("inf"))
    most: float = 0.0

    def add(self, milliseconds: float) -> None:
        """Take one more step's value in."""
        self.count += 1
        self.total += milliseconds
        self.least = min(self.least, milliseconds)
        self.most = max(self.most, milliseconds)

    @property
    def mean(self) -> float:
        """Mean over the steps that had the row; 0 before the first."""
        return self.total / self.count if self.count else 0.0


@functools.lru_cache(maxsize=4096)
def clean_name(name: str) -> str:
    """Return ``name`` as a path of one line: no empty parts, no control characters."""
    printable = "".join(char if char.isprintable() else " " for char in name)
    parts = [part.strip() for part in printable.split("/")]
    return "/".join(part for part in parts if part) or "unnamed"


def with_parents(milliseconds: Mapping[str, float]) -> dict[str, float]:
    """Return the rows with every parent that was not logged itself added as the sum of its children."""
    complete = dict(milliseconds)
    missing = {name[:at] for name in milliseconds for at in _slashes(name)} - milliseconds.keys()
    for parent in sorted(missing, key=lambda path: path.count("/"), reverse=True):
        complete[parent] = sum(ms for name, ms in complete.items() if name.rpartition("/")[0] == parent)
    return complete


def _slashes(name: str) -> list[int]:
    return [at for at, char in enumerate(name) if char == "/"]
