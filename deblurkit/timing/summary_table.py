"""The closing table for people: count, mean, own time, share and quantiles of every row, aligned."""

from __future__ import annotations

from collections.abc import Mapping

from rich.cells import cell_len, set_cell_size

from deblurkit.timing.overhead import OwnCost
from deblurkit.timing.partition import exclusive
from deblurkit.timing.records import UNACCOUNTED
from deblurkit.timing.statistics import Statistics
from deblurkit.timing.text_log import walk

NAME_COLUMNS = 36
_QUANTILES = (0.5, 0.95, 0.99)
_HEADS = ("n", "mean", "own", "share", "p50", "p95", "p99", "min", "max")
_WIDTHS = (7, 10, 10, 7, 10, 10, 10, 10, 10)


def format_table(
    rows: Mapping[str, Statistics], *, step: Statistics, unaccounted: Statistics, cost: OwnCost
) -> str:
    """Return the table of a run in milliseconds.

    Args:
        rows: of every name.
        step: of the steps' wall time.
        unaccounted: of the time that no top-level row covers.
        cost: of timing itself.

    Returns:
        ``mean`` is over the steps that had the row; ``own`` is the same less the row's children; ``share``
        is of the wall time of all steps.
    """
    width = NAME_COLUMNS + sum(_WIDTHS)
    rule = "=" * width
    heads = "".join(f"{head:>{columns}}" for head, columns in zip(_HEADS, _WIDTHS, strict=True))
    lines = [rule, f"Timing Summary (Total {step.count} steps, times in ms)", rule]
    lines.append(" " * NAME_COLUMNS + heads)
    totals = {name: row.total for name, row in rows.items()}
    own = exclusive(totals)
    for name, depth in walk(totals):
        label = "  " * depth + name.rpartition("/")[2]
        lines.append(_line(label, rows[name], own=own[name], whole=step.total))
    lines.append(_line(UNACCOUNTED, unaccounted, own=unaccounted.total, whole=step.total))
    lines.append("-" * width)
    lines.append(_line("step", step, own=unaccounted.total, whole=step.total))
    return "\n".join([*lines, cost.as_line()]) + "\n"


def fit(name: str, columns: int) -> str:
    """Return ``name`` in exactly so many terminal columns; one that is too long loses its middle."""
    if cell_len(name) <= columns:
        return set_cell_size(name, columns)
    front = set_cell_size(name, columns // 2).rstrip()
    back = name[len(front) :]
    while cell_len(front) + 1 + cell_len(back) > columns:
        back = back[1:]
    return set_cell_size(f"{front}…{back}", columns)


def _line(label: str, row: Statistics, *, own: float, whole: float) -> str:
    least = row.least if row.count else 0.0
    share = f"{100 * row.total / whole:.1f}%" if whole > 0 else ""
    figures = (row.mean, own / max(row.count, 1), share, *row.quantiles(_QUANTILES), least, row.most)
    cells = [f"{row.count:>{_WIDTHS[0]}}"]
    for value, columns in zip(figures, _WIDTHS[1:], strict=True):
        text = value if isinstance(value, str) else f"{value:.2f}"
        cells.append(f"{text:>{columns}}")
    return fit(label, NAME_COLUMNS - 1) + " " + "".join(cells)
