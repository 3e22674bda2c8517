"""Memory that leaks: what grows steadily from step to step, and whose it is."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from deblurkit.memory.processes import Role
from deblurkit.units import MIB

FLOOR_BYTES = 64 * MIB  # growth below it is the interpreter's and the allocator's own
_FEWEST = 16  # samples that are judged
_NEWEST = 40  # samples that are kept as they come
_THINNED = 32  # samples that are kept of a whole run, at most
_AS_FAST = 0.6  # of the first half's slope: what grows slower than that in the second is levelling off
_ANYWHERE = 0.65  # of the slope: what three of four stretches of a quarter's length grow by, at the least
_FALL = 0.5  # of what has grown: what was given back once may be given back again
_SURE = 1.96  # standard deviations: 95 %

Kind = Literal["cuda"] | Role
Samples = Sequence[tuple[int, int]]  # step, bytes


@dataclass(frozen=True)
class Owner:
    """Whose memory it is.

    Attributes:
        kind: a process's role, or ``cuda`` for what PyTorch has reserved on the GPU of the process.
        pid: of the process.
        number: of a worker among those of its process, or of a rank; None where there is but one.
    """

    kind: Kind
    pid: int
    number: int | None = None

    @property
    def name(self) -> str:
        """As a user knows it."""
        words = {"main": "the main process", "cuda": "PyTorch's memory on the GPU", "worker": "loader worker"}
        name = words.get(self.kind, self.kind)
        numbered = name if self.number is None else f"{name} {self.number}"
        return numbered if self.kind == "cuda" else f"{numbered} (process {self.pid})"


@dataclass(frozen=True)
class Slope:
    """A line through samples, in bytes a step: the median slope, and the ends of its 95 % interval."""

    per_step: float
    low: float
    high: float


@dataclass(frozen=True)
class Growth:
    """Memory that grows steadily.

    Attributes:
        owner: whose it is.
        slope: how fast.
        first_step: of the samples that show it.
        last_step: likewise.
        first_bytes: level at the first ones of them.
        last_bytes: level at the last ones.
    """

    owner: Owner
    slope: Slope
    first_step: int
    last_step: int
    first_bytes: int
    last_bytes: int

    @property
    def grown_bytes(self) -> int:
        """What was added along the line."""
        return round(self.slope.per_step * (self.last_step - self.first_step))


def robust_slope(samples: Samples) -> Slope:
    """Return the median of the slopes of all pairs of samples, and its 95 % interval.

    Theil (1950) and Sen (1968): up to 29 % of the samples may be anything.

    Args:
        samples: (step, bytes), at least two, each of another step.
    """
    pairs = itertools.combinations(samples, 2)
    slopes = sorted((later - earlier) / (end - start) for (start, earlier), (end, later) in pairs)
    count, most = len(samples), len(slopes) - 1
    width = _SURE * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)  # of Kendall's score
    low, high = math.floor((len(slopes) - width) / 2), math.ceil((len(slopes) + width) / 2)
    return Slope(statistics.median(slopes), slopes[max(0, low)], slopes[min(most, high)])


def steady_growth(samples: Samples, *, floor_bytes: int = FLOOR_BYTES) -> Slope | None:
    """Return the slope of memory that leaks; None where it does not, or where too little is known.

    A leak grows by at least ``floor_bytes``, surely (95 %), in nearly every stretch, and in both halves about
    alike, and is not given back. What fills, warms up or is copied once grows along a curve that levels off;
    what is allocated now and then grows by jumps; a collector gives back what has piled up. Before it has
    done so for the first time, nothing tells it from a leak.
    """
    if len(samples) < _FEWEST or _rise(samples) < floor_bytes / 2:
        return None
    whole, middle = robust_slope(samples), len(samples) // 2
    grown = whole.per_step * (samples[-1][0] - samples[0][0])
    if whole.low <= 0 or grown < floor_bytes or _slow_stretch(samples) < _ANYWHERE * whole.per_step:
        return None
    if _deepest_fall(samples) > _FALL * grown:
        return None
    first, second = robust_slope(samples[:middle]), robust_slope(samples[middle:])
    return whole if second.per_step >= _AS_FAST * first.per_step else None


class LeakWatch:
    """Takes samples of several owners' memory while a run goes on, and says which of it leaks.

    Args:
        floor_bytes: growth below it is none.
    """

    def __init__(self, *, floor_bytes: int = FLOOR_BYTES) -> None:
        self._floor_bytes = floor_bytes
        self._courses: dict[Owner, _Course] = {}

    def add(self, step: int, sizes: Mapping[Owner, int]) -> None:
        """Take what everyone holds after a step; who is not among them has ended, and is forgotten.

        A second look after the same step adds nothing.
        """
        for gone in self._courses.keys() - sizes.keys():
            del self._courses[gone]
        for owner, size in sizes.items():
            self._courses.setdefault(owner, _Course()).add(step, size)

    def growing(self) -> list[Growth]:
        """Return whose memory leaks, by the newest samples or by those of the whole run; most first."""
        found = [self._growth(owner, course) for owner, course in self._courses.items()]
        known = [growth for growth in found if growth is not None]
        return sorted(known, key=lambda growth: growth.slope.per_step, reverse=True)

    def rise(self, owner: Owner) -> int:
        """Return by how much an owner's memory has grown over the run, steadily or not."""
        course = self._courses.get(owner)
        return _rise(course.thinned) if course is not None and len(course.thinned) > 1 else 0

    def _growth(self, owner: Owner, course: _Course) -> Growth | None:
        for samples in (course.beyond_earlier(), course.thinned):
            slope = steady_growth(samples, floor_bytes=self._floor_bytes)
            if slope is not None:
                first, last = _ends(samples)
                return Growth(owner, slope, samples[0][0], samples[-1][0], first, last)
        return None


class _Course:
    """The samples of one owner: the newest as they came, and some of the whole run."""

    def __init__(self) -> None:
        self.thinned: list[tuple[int, int]] = []
        self._newest: deque[tuple[int, int]] = deque(maxlen=_NEWEST)
        self._highest_before = 0
        self._count = 0
        self._every = 1

    def add(self, step: int, size: int) -> None:
        """Take a sample, unless there is one of that step."""
        if self._newest and step <= self._newest[-1][0]:
            return
        if len(self._newest) == _NEWEST:
            self._highest_before = max(self._highest_before, self._newest[0][1])
        self._newest.append((step, size))
        if self._count % self._every == 0:
            self.thinned.append((step, size))
        self._count += 1
        if len(self.thinned) > _THINNED:
            self.thinned, self._every = self.thinned[::2], 2 * self._every

    def beyond_earlier(self) -> Samples:
        """Return the newest samples, if they end above all before them: what was held once is no growth."""
        newest = list(self._newest)
        return newest if _ends(newest)[1] > self._highest_before else ()


def _ends(samples: Samples) -> tuple[int, int]:
    """Return the levels at the beginning and at the end: medians of a quarter of the samples."""
    quarter = max(1, len(samples) // 4)
    return _level(samples[:quarter]), _level(samples[-quarter:])


def _level(samples: Samples) -> int:
    return round(statistics.median(size for _, size in samples))


def _rise(samples: Samples) -> int:
    first, last = _ends(samples)
    return last - first


def _slow_stretch(samples: Samples) -> float:
    """Return the lower quartile of the slopes of all stretches that are a quarter as long as the whole."""
    pairs = zip(samples, samples[len(samples) // 4 :], strict=False)
    slopes = sorted((later - earlier) / (end - start) for (start, earlier), (end, later) in pairs)
    return slopes[len(slopes) // 4]


def _deepest_fall(samples: Samples) -> int:
    """Return how far the level has fallen below where it was before; a single sample is no level."""
    sizes = [size for _, size in samples]
    levels = [statistics.median_low(sizes[start : start + 3]) for start in range(len(sizes) - 2)]
    return max(before - now for before, now in zip(itertools.accumulate(levels, max), levels, strict=True))
