"""Why a row of a search is the best or why it is not, in a clause with its arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

from deblurkit.tuning.recommend.front import rate_of
from deblurkit.tuning.recommend.records import Budget, Memory, Row
from deblurkit.tuning.recommend.refused import too_many
from deblurkit.units import format_bytes, format_rate, format_share, plural

_WHERE: Mapping[Memory, str] = {"device": "", "host": " of host memory"}


def verdict_of(
    row: Row,
    best: Row | None,
    *,
    budget: Budget,
    is_bound: bool,
    refused: Mapping[Memory, int],
    unknown: str = "",
) -> str:
    """Return why ``row`` is not the best.

    Args:
        row: of a candidate.
        best: the recommended one; None where there is none.
        budget: that the search has.
        is_bound: whether the row's bytes are those that it needs at least.
        refused: of each memory, bytes said to be needed by the least that ran out of it when tried.
        unknown: why the row's memory could not be predicted; empty where it was.
    """
    if row.trial is not None and row.trial.outcome != "measured":
        detail = f": {row.trial.detail}" if row.trial.detail else ""
        return f"{row.trial.outcome} when tried{detail}"
    if not row.fits:
        return _why_not_fitting(row, budget, "needs at least" if is_bound else "needs", refused, unknown)
    if row.estimate is None:
        return "nothing is known of its step" + (f", nor of its memory: {unknown}" if unknown else "")
    if best is None:  # though it may run
        return f"no trial gave figures, so that nothing is recommended: {_speed(row)}"
    return _beside(row, best)


def best_verdict(row: Row, fitting: int, of: int, *, within: float = 0.0) -> str:
    """Return why the best row is the best of those that fit.

    Args:
        row: it.
        fitting: how many fit.
        of: how many there are.
        within: share of its speed that others may be faster by, which differ more from the start.
    """
    among = f"{fitting} that fit of {plural(of, 'candidate')}"
    which = f"as fast as any of {among}, to {format_share(within)}, and nearest to the start"
    return f"{which if within else f'the fastest of {among}'}: {_speed(row)}"


def _why_not_fitting(
    row: Row, budget: Budget, needs: str, refused: Mapping[Memory, int], unknown: str
) -> str:
    needed: dict[Memory, int | None] = {"device": row.peak_bytes, "host": row.host_bytes}
    there: dict[Memory, int | None] = {"device": budget.device_bytes, "host": budget.host_bytes}
    for memory, where in _WHERE.items():
        held, room = needed[memory], there[memory]
        if held is not None and room is not None and held > room:
            return f"{needs} {format_bytes(held)}{where}, {format_bytes(room)} are there"
    short = too_many(needed, refused)
    if short is not None:
        return (
            f"{needs} {format_bytes(needed[short] or 0)}{_WHERE[short]}, and one that needs"
            f" {format_bytes(refused[short])} was out of memory when tried"
        )
    return "its memory is not known" + (f": {unknown}" if unknown else "")


def _beside(row: Row, best: Row) -> str:
    """Return how far a row is behind the best, or that they cannot be told apart."""
    interval, rate = row.interval, rate_of(best)
    assert interval is not None
    if interval[1] >= rate:
        reaches = f"may reach {format_rate(interval[1])} samples/s"
        return f"not told apart from the best: {reaches}{_memory_beside(row, best)}"
    least, most = (100 * (1 - end / rate) for end in reversed(interval))
    behind = 100 * (1 - rate_of(row) / rate)
    return (
        f"1 - {format_rate(rate_of(row))} / {format_rate(rate)} = {behind:.0f} % behind"
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
