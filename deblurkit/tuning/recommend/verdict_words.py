"""Why a row of a search is the best or why it is not, in a clause with its arithmetic."""

from __future__ import annotations

from deblurkit.tuning.recommend.front import rate_of
from deblurkit.tuning.recommend.records import Budget, Row
from deblurkit.units import format_bytes, format_rate, plural


def verdict_of(row: Row, best: Row | None, *, budget: Budget, is_bound: bool, refused: int | None) -> str:
    """Return why ``row`` is not the best.

    Args:
        row: of a candidate.
        best: the recommended one; None where there is none.
        budget: that the search has.
        is_bound: whether the row's bytes are those that it needs at least.
        refused: bytes said to be needed by the least that was out of memory when tried; None: none was.
    """
    if row.trial is not None and row.trial.outcome != "measured":
        detail = f": {row.trial.detail}" if row.trial.detail else ""
        return f"{row.trial.outcome} when tried{detail}"
    if not row.fits:
        return _why_not_fitting(row, budget, "needs at least" if is_bound else "needs", refused)
    if row.estimate is None:
        return "nothing is known of its step"
    if best is None:
        return _speed(row)
    return _beside(row, best)


def best_verdict(row: Row, fitting: int, of: int) -> str:
    """Return why the best row is the best of those that fit."""
    return f"the fastest of {fitting} that fit of {plural(of, 'candidate')}: {_speed(row)}"


def _why_not_fitting(row: Row, budget: Budget, needs: str, refused: int | None) -> str:
    for held, there, where in (
        (row.peak_bytes, budget.device_bytes, ""),
        (row.host_bytes, budget.host_bytes, " of host memory"),
    ):
        if held is not None and there is not None and held > there:
            return f"{needs} {format_bytes(held)}{where}, {format_bytes(there)} are there"
    if refused is not None and row.peak_bytes is not None:
        return (
            f"{needs} {format_bytes(row.peak_bytes)}, and one that needs {format_bytes(refused)} was out of"
            " memory when tried"
        )
    return "its memory could not be predicted"


def _beside(row: Row, best: Row) -> str:
    """Return how far a row is behind the best, or that they cannot be told apart."""
    interval, rate = row.interval, rate_of(best)
    assert interval is not None
    if interval[1] >= rate:
        return f"not told apart from the best: {_speed(row)}{_memory_beside(row, best)}"
    least, most = (100 * (1 - end / rate) for end in reversed(interval))
    behind = 100 * (1 - rate_of(row) / rate)
    return (
        f"{format_rate(rate_of(row))} samples/s, {behind:.0f} % behind"
        f" (90 % interval {least:.0f} to {most:.0f} %){_memory_beside(row, best)}"
    )


def _speed(row: Row) -> str:
    assert row.estimate is not None and row.interval is not None
    how = "measured" if row.estimate.is_measured else "predicted"
    low, high = map(format_rate, row.interval)
    return f"{format_rate(rate_of(row))} samples/s {how}, 90 % interval {low} to {high}"


def _memory_beside(row: Row, best: Row) -> str:
    if row.peak_bytes is None or best.peak_bytes is None or row.peak_bytes == best.peak_bytes:
        return ""
    more = row.peak_bytes - best.peak_bytes
    return f"; needs {format_bytes(abs(more))} {'more' if more > 0 else 'less'}"
