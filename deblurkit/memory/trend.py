"""Where memory is heading: a line through what was seen in the last minutes, and when it would be met."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WINDOW = 300.0  # seconds that count
_FEWEST = 5  # points that make a line
_SHORTEST = 30.0  # seconds that they span: what a process does for less is no trend
_CLEAR = 3.0  # times the scatter about the line that memory has changed along it, where it is no noise
_FARTHEST = 7 * 86400.0  # seconds: what is beyond that, a line through minutes does not tell


@dataclass(frozen=True)
class Trend:
    """A line through points of time and bytes (least squares).

    Attributes:
        per_second: bytes that are added a second.
        is_clear: whether the change along the line stands out from the scatter about it.
    """

    per_second: float
    is_clear: bool


def trend_of(points: Sequence[tuple[float, float]]) -> Trend | None:
    """Return the line through (seconds, bytes); None where they are too few, or too short a time."""
    if len(points) < _FEWEST or points[-1][0] - points[0][0] < _SHORTEST:
        return None
    times, values = [at for at, _ in points], [value for _, value in points]
    mean_time, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((at - mean_time) ** 2 for at in times)
    slope = sum((at - mean_time) * (value - mean) for at, value in points) / spread
    left = sum((value - mean - slope * (at - mean_time)) ** 2 for at, value in points)
    scatter = math.sqrt(left / (len(points) - 2))
    change = abs(slope) * (times[-1] - times[0])
    return Trend(slope, change > _CLEAR * scatter)


def seconds_left(available: Sequence[tuple[float, float]]) -> float | None:
    """Return when nothing would be left if it went on like this; None where it does not shrink clearly.

    Args:
        available: Unix seconds and the bytes that could be had then, oldest first.
    """
    trend = trend_of(available)
    if trend is None or not trend.is_clear or trend.per_second >= 0:
        return None
    left = available[-1][1] / -trend.per_second
    return left if left <= _FARTHEST else None


class Courses:
    """What was seen of several things in the last minutes, by their names."""

    def __init__(self, *, window: float = WINDOW) -> None:
        """Take the seconds that are kept."""
        self._window = window
        self._points: dict[str, deque[tuple[float, float]]] = defaultdict(deque)

    def add(self, at: float, values: Mapping[str, int | None]) -> None:
        """Take in what was seen at a moment; what is not among it any more is forgotten."""
        for name in self._points.keys() - values.keys():
            del self._points[name]
        for name, value in values.items():
            if value is None:
                continue
            points = self._points[name]
            points.append((at, float(value)))
            while points[0][0] < at - self._window:
                points.popleft()

    def of(self, name: str) -> list[tuple[float, float]]:
        """Return what was seen of one, oldest first."""
        return list(self._points.get(name, ()))


def thinned(values: Sequence[float], count: int) -> list[float]:
    """Return at most ``count`` values for as many stretches of equal length: the mean of each."""
    if len(values) <= count:
        return list(values)
    edges = [round(number * len(values) / count) for number in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
