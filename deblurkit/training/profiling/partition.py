"""From intervals that lie inside and across one another to pieces that follow one another.

Every moment of a step belongs to one row: of those whose interval is open, the one that began last, and never
a row before one inside it. So times add up, also where the graph branches and a module's backward pass stays
open while others run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deblurkit.timing.module_times import RECOMPUTE

Position = tuple[float, ...]  # compared by its first number; any may be what is measured


@dataclass(frozen=True)
class Interval:
    """A named span between two positions: ``forward``, ``forward/row``, ``backward/recompute/row``."""

    name: str
    begin: Position
    end: Position


@dataclass(frozen=True)
class Piece:
    """A stretch of a step that belongs to one row.

    Attributes:
        phase: that it lies in.
        row: that it belongs to; empty for what lies in no row.
        kind: of what is made again in it; empty where nothing is.
        begin, end: its positions.
    """

    phase: str
    row: str
    kind: str
    begin: Position
    end: Position

    def amount(self, of: int = 0) -> float:
        """Return by how much one number of the position grows."""
        return self.end[of] - self.begin[of]


@dataclass(frozen=True)
class Names:
    """How the rows of intervals are to be shown.

    Attributes:
        hidden: rows that are watched only for what is made again in them, and the row that shows it (empty:
            none).
        kinds: kind of what is made again, by row; ``other`` for those not here.
    """

    hidden: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)

    def owner(self, name: str) -> tuple[str, str, str] | None:
        """Return phase, row and kind of an interval's name; None for one that is not shown."""
        phase, _, row = name.partition("/")
        first, _, inside = row.partition("/")
        if first == RECOMPUTE and inside:
            return phase, self.hidden.get(inside, inside), self.kinds.get(inside, "other")
        return None if row in self.hidden else (phase, row, "")


def pieces(intervals: Iterable[Interval], names: Names | None = None) -> list[Piece]:
    """Return the stretches of a step in order; together they cover all that the intervals do."""
    known = Names() if names is None else names
    shown = [(interval, known.owner(interval.name)) for interval in intervals]
    spans = [(each, owner) for each, owner in shown if owner is not None and each.begin < each.end]
    spans.sort(key=lambda span: (span[0].begin, tuple(-value for value in span[0].end)))
    owners = [owner for _, owner in spans]
    moments = sorted(
        moment
        for number, (each, _) in enumerate(spans)
        for moment in ((each.begin, True, number), (each.end, False, number))
    )  # what ends comes before what begins at the same moment
    found: list[Piece] = []
    open_ones: list[int] = []
    until: Position = ()
    for position, begins, number in moments:
        if open_ones and position > until:
            _extend(found, Piece(*owners[open_ones[-1]], until, position))
        until = position
        if begins:
            _open(open_ones, number, owners)
        else:
            open_ones.remove(number)
    return found


def _open(open_ones: list[int], number: int, owners: Sequence[tuple[str, str, str]]) -> None:
    """Put an interval on top of the open ones, but below those of rows inside its own.

    The output of a module can be that of the last module in it: then the gradient meets the inner one first.
    """
    phase, row, kind = owners[number]
    at = next((at for at, other in enumerate(open_ones) if _is_inside(owners[other], phase, row, kind)), None)
    open_ones.insert(len(open_ones) if at is None else at, number)


def _is_inside(owner: tuple[str, str, str], phase: str, row: str, kind: str) -> bool:
    is_below = bool(row) and owner[1].startswith(f"{row}/")
    return is_below and owner[0] == phase and bool(owner[2]) == bool(kind)


def _extend(found: list[Piece], piece: Piece) -> None:
    """Add a piece, joined to the one before where that is the same row's and ends where this begins."""
    last = found[-1] if found else None
    if last is not None and last.end == piece.begin and _owner(last) == _owner(piece):
        found[-1] = Piece(*_owner(piece), last.begin, piece.end)
    else:
        found.append(piece)


def _owner(piece: Piece) -> tuple[str, str, str]:
    return piece.phase, piece.row, piece.kind


def totals(found: Sequence[Piece], *, of: int = 0) -> dict[tuple[str, str, str], float]:
    """Return the amounts by phase, row and kind."""
    amounts: dict[tuple[str, str, str], float] = {}
    for piece in found:
        amounts[_owner(piece)] = amounts.get(_owner(piece), 0.0) + piece.amount(of)
    return amounts


@dataclass(frozen=True)
class Slice:
    """A bar of a flame chart: ``path`` is what it lies inside of and itself."""

    path: tuple[str, ...]
    begin: Position
    end: Position


def flame(found: Sequence[Piece]) -> list[Slice]:
    """Return pieces as bars that lie inside one another: phase, the levels of its row, and recompute."""
    slices: list[Slice] = []
    running: list[Slice] = []
    for piece in found:
        path = (piece.phase, *piece.row.split("/")) if piece.row else (piece.phase,)
        path = (*path, RECOMPUTE) if piece.kind else path
        keeps = 0
        while keeps < min(len(running), len(path)) and _goes_on(running[keeps], path, keeps, piece):
            keeps += 1
        slices += running[keeps:]
        running = [Slice(bar.path, bar.begin, piece.end) for bar in running[:keeps]]
        running += [Slice(path[: at + 1], piece.begin, piece.end) for at in range(keeps, len(path))]
    return sorted([*slices, *running], key=lambda bar: (bar.begin, len(bar.path)))


def _goes_on(bar: Slice, path: tuple[str, ...], level: int, piece: Piece) -> bool:
    return bar.path[level] == path[level] and bar.end == piece.begin
