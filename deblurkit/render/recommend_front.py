"""Memory against throughput as SVG: every candidate a point, the front a line, the budget a mark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deblurkit.render.analysis_page.plain import in_html
from deblurkit.render.recommend_cells import interval_cell, rate_cell, size_cell, source_cell
from deblurkit.tuning.recommend.records import Recommendation, Row
from deblurkit.tuning.recommend.words import name_of
from deblurkit.units import format_bytes, format_rate

WIDTH, HEIGHT = 1100.0, 440.0  # of the drawing [px]
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 24.0, 26.0, 48.0  # margins [px]
_ROOM = 1.05  # of an axis beyond what is drawn
_FARTHEST = 1.6  # times the budget; what needs more is not drawn
_FAR_BUDGET = 2.5  # times the most that is drawn; a budget beyond it would squash all to the left
_NARROW = 130.0  # of the left edge [px]: labels of points within stand on their right
_LETTER = (8.5, 13.0)  # of a label, width and height [px]
_TICKS = 6
_RADIUS = {"over": 4, "plain": 4, "front": 6, "start": 8, "best": 8}  # of a point by its kind [px]


@dataclass(frozen=True)
class _Scale:
    """Where bytes and samples/s are on the drawing."""

    most_bytes: float
    most_rate: float

    def x(self, count: float) -> float:
        """Return how far right bytes are [px]."""
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * count / self.most_bytes

    def y(self, rate: float) -> float:
        """Return how far down a throughput is [px]; one above the drawing is at its edge."""
        whole = HEIGHT - _TOP - _BOTTOM
        return _TOP + whole * (1 - min(rate / self.most_rate, 1.0))


@dataclass(frozen=True)
class _Point:
    """A row whose memory and throughput are known."""

    row: Row
    bytes: int
    rate: float
    low: float
    high: float


def front_as_svg(found: Recommendation) -> str:
    """Return the drawing; empty where neither memory nor throughput of anything is known.

    Points that were measured are filled. Whatever names hold, the page shows it letter by letter.
    """
    budget = found.budget.device_bytes
    points = [_point(row) for row in found.rows]
    known = [point for point in points if point is not None and not _is_far(point, budget)]
    if not known:
        return ""
    scale = _scale(known, budget)
    parts = [*_axes(scale), *_budget(budget, scale), *_front_line(found, scale)]
    parts += [_drawn(found, point, scale) for point in sorted(known, key=lambda point: point.row.fits)]
    parts += [*_labels(found, known, scale)]
    label = "Memory against throughput of all configurations"
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


def ticks(most: float, *, count: int = _TICKS) -> list[float]:
    """Return round numbers from 0 to ``most``, about ``count``: multiples of 1, 2 or 5 of a power of ten."""
    raw = most / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    return [step * number for number in range(int(most / step) + 1)]


def byte_ticks(most: float, *, count: int = _TICKS) -> list[float]:
    """Return sizes from 0 to ``most``, ``count`` or fewer beside 0: multiples of a power of two."""
    step = 2.0 ** math.ceil(math.log2(most / count))
    return [step * number for number in range(int(most / step) + 1)]


def _point(row: Row) -> _Point | None:
    rate, interval = row.samples_per_second, row.interval
    if row.peak_bytes is None or rate is None or interval is None:
        return None
    return _Point(row, row.peak_bytes, rate, *interval)


def _is_far(point: _Point, budget: int | None) -> bool:
    return budget is not None and point.bytes > _FARTHEST * budget


def _scale(points: Sequence[_Point], budget: int | None) -> _Scale:
    most: float = max(point.bytes for point in points)
    if budget is not None and budget <= _FAR_BUDGET * most:
        most = max(most, budget)
    sure = [point.high for point in points if point.row.estimate and point.row.estimate.is_measured]
    return _Scale(_ROOM * most, _ROOM * max(*sure, *(point.rate for point in points), 1e-9))


def _axes(scale: _Scale) -> Iterator[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    for rate in ticks(scale.most_rate):
        y = scale.y(rate)
        yield f'<line class="grid" x1="{_LEFT:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{format_rate(rate)}</text>'
    for count in byte_ticks(scale.most_bytes):
        x = scale.x(count)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP:.1f}" y2="{bottom:.1f}"/>'
        said = in_html(format_bytes(count))
        yield f'<text x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{said}</text>'
    yield f'<text x="{_LEFT:.1f}" y="16">samples/s</text>'
    yield f'<text x="{right:.1f}" y="{HEIGHT - 8:.1f}" text-anchor="end">memory of a device</text>'


def _budget(budget: int | None, scale: _Scale) -> Iterator[str]:
    """Yield the mark of the budget; one that is far to the right is only said."""
    if budget is None:
        return
    is_far = budget > scale.most_bytes
    x = WIDTH - _RIGHT if is_far else scale.x(budget)
    if not is_far:
        yield f'<line class="budget" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP:.1f}" y2="{HEIGHT - _BOTTOM:.1f}"/>'
    said = in_html(f"budget {format_bytes(budget)}" + (", farther to the right" if is_far else ""))
    yield f'<text x="{x - 6:.1f}" y="{HEIGHT - _BOTTOM - 8:.1f}" text-anchor="end">{said}</text>'


def _front_line(found: Recommendation, scale: _Scale) -> Iterator[str]:
    """Yield the line of steps below which everything is beaten by a point of the front."""
    points = [point for point in map(_point, found.front) if point is not None]
    if points:
        first, *rest = points
        path = f"M{scale.x(first.bytes):.1f} {scale.y(first.rate):.1f}"
        path += "".join(f"H{scale.x(point.bytes):.1f}V{scale.y(point.rate):.1f}" for point in rest)
        yield f'<path class="front" d="{path}"/>'


def _drawn(found: Recommendation, point: _Point, scale: _Scale) -> str:
    x, kind = scale.x(point.bytes), _kind(found, point.row)
    ends = f'y1="{scale.y(point.high):.1f}" y2="{scale.y(point.low):.1f}"'
    return (
        f'<g class="point {kind} {source_cell(point.row)}" tabindex="0">'
        f"<title>{in_html(_title(found, point.row))}</title>"
        f'<line x1="{x:.1f}" x2="{x:.1f}" {ends}/>'
        f'<circle cx="{x:.1f}" cy="{scale.y(point.rate):.1f}" r="{_RADIUS[kind]}"/></g>'
    )


def _kind(found: Recommendation, row: Row) -> str:
    """Return what a point is; one that is several, the most telling of these."""
    key = row.candidate.key
    if found.best is not None and key == found.best.candidate.key:
        return "best"
    if key == found.start.candidate.key:
        return "start"
    if not row.fits:
        return "over"
    return "front" if key in {each.candidate.key for each in found.front} else "plain"


def _title(found: Recommendation, row: Row) -> str:
    name = name_of(found.start.candidate, row.candidate)
    speed = f"{rate_cell(row)} samples/s ({interval_cell(row)}), {source_cell(row)}"
    return f"{name}: {size_cell(row.peak_bytes)}, {speed}" + ("" if row.fits else "; does not fit")


@dataclass(frozen=True)
class _Label:
    """A word beside a point, and where it begins and ends."""

    words: str
    left: float
    right: float
    y: float

    def overlaps(self, other: _Label) -> bool:
        """Return whether it would stand on another."""
        is_beside = self.right < other.left or other.right < self.left
        return not is_beside and abs(self.y - other.y) < _LETTER[1]


def _labels(found: Recommendation, known: Sequence[_Point], scale: _Scale) -> Iterator[str]:
    """Yield which points are the start and the best, and the numbers of the front that there is room for.

    What is left out has its number in the table, and its name where one points at it.
    """
    placed: list[_Label] = []
    for label in _wanted_labels(found, known, scale):
        if not any(label.overlaps(other) for other in placed):
            placed.append(label)
            yield f'<text class="name" x="{label.left:.1f}" y="{label.y:.1f}">{label.words}</text>'


def _wanted_labels(found: Recommendation, known: Sequence[_Point], scale: _Scale) -> Iterator[_Label]:
    """Yield the labels of points, those that matter most first."""
    numbers = {row.candidate.key: str(number) for number, row in enumerate(found.front, 1)}
    named = [(point, _kind(found, point.row)) for point in known]
    for point, kind in sorted(named, key=lambda each: each[1] not in ("start", "best")):
        words = (numbers.get(point.row.candidate.key, ""), kind if kind in ("start", "best") else "")
        if any(words):
            yield _label(" ".join(filter(None, words)), point, scale, is_below=kind == "start")


def _label(words: str, point: _Point, scale: _Scale, *, is_below: bool) -> _Label:
    x, y = scale.x(point.bytes), scale.y(point.rate) + (22 if is_below else -9)
    long = _LETTER[0] * len(words)
    left = x + 8 if x < _LEFT + _NARROW else x - 8 - long
    return _Label(words, left, left + long, y)
