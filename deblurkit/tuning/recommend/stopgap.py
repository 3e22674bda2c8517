"""What to go with where a search was broken off before a trial told of anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deblurkit.tuning.recommend.records import Row
from deblurkit.tuning.recommend.space import order_of_need
from deblurkit.tuning.recommend.words import changed_axes

_BEFORE = "the search was interrupted before"
_NOT_JUDGED = f"{_BEFORE} a trial told how it compares"


def is_start(row: Row) -> bool:
    """Return whether a row is that of the configuration as it was given."""
    return not row.candidate.settings and row.candidate.devices == 1


def with_stopgap(rows: Sequence[Row]) -> tuple[tuple[Row, ...], Row | None]:
    """Return the rows with the one to go with as the first, and that one; the others are not judged by it."""
    best = stopgap(rows)
    others = [row for row in rows if best is None or row.candidate.key != best.candidate.key]
    judged = [replace(row, verdict=_NOT_JUDGED) if row.fits and row.trial is None else row for row in others]
    return (*judged,) if best is None else (best, *judged), best


def stopgap(rows: Sequence[Row]) -> Row | None:
    """Return the row to go with, its verdict telling what is not known; None where nothing may fit.

    What is known to fit comes first: the start, or else what differs from it in the fewest choices. Then
    what nothing is known of: the start again, or else what needs least.
    """
    may_do = [row for row in rows if _may_do(row)]
    if not may_do:
        return None
    start = next(filter(is_start, rows)).candidate

    def place(row: Row) -> tuple[object, ...]:
        apart = len(changed_axes(start, row.candidate)) if row.fits else 0
        is_other = row.candidate.effect == "accuracy"
        return not row.fits, row.candidate is not start, is_other, apart, order_of_need(row.candidate.config)

    row = min(may_do, key=place)
    return replace(row, verdict=_verdict(row))


def _may_do(row: Row) -> bool:
    is_left = row.trial is None and row.candidate.devices == 1
    return is_left and (row.fits or row.peak_bytes is None)


def _verdict(row: Row) -> str:
    if row.peak_bytes is None:
        which = "as it was given" if is_start(row) else "of those whose memory is not known it needs least"
        return f"{which}: {_BEFORE} it was known to fit"
    which = "as it was given" if is_start(row) else "of those that fit it is nearest to the start"
    return f"{which}: {_BEFORE} a trial told of another"
