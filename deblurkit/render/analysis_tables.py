"""The tables of a report on a log: phases, modules, epochs, what was beside the steps, numbers, a trace."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from deblurkit.analysis.report import Report
from deblurkit.analysis.tables import TraceFigures
from deblurkit.render.text import figure_table
from deblurkit.units import format_bytes, format_ms, format_share, plural

_MOST_MODULES = 20
_MOST_EPOCHS = 12
_MOST_SCALARS = 15
_MOST_KERNELS = 5
_SHARES = ("_share", "hit_rate", "utilisation")
_FEWEST_OF_A_TABLE = 2
_LONGEST_NAME = 60
_PARTS_OF_A_TRACE = (
    ("GPU idle", "idle_us"),
    ("GPU idle for data", "data_gap_us"),
    ("GPU idle, as the host had waited for it", "sync_gap_us"),
    ("GPU idle, as the host launched late", "launch_gap_us"),
    ("host waiting for the GPU", "sync_us"),
    ("communication, covered or not", "communication_us"),
)


def tables(report: Report) -> Iterator[RenderableType]:
    """Yield the tables that a log has figures for."""
    if len(report.phases):
        yield _phases(report)
    if len(report.modules) > sum(report.modules["depth"] == 0):
        yield _modules(report)
    if _FEWEST_OF_A_TABLE <= len(report.epochs) <= _MOST_EPOCHS:
        yield _epochs(report.epochs)
    if report.beside:
        yield _beside(report)
    if len(report.scalars):
        yield _scalars(report.scalars)
    if report.log.trace is not None and report.log.trace.has_device:
        yield _trace(report.log.trace)


def _phases(report: Report) -> Table:
    table = figure_table("Phase", "mean", "median", "95 %", "99 %", "share")
    for name, row in report.phases.iterrows():
        spread = [format_ms(row[key]) for key in ("p50_ms", "p95_ms", "p99_ms")]
        figures = spread if report.has_percentiles else ["-"] * len(spread)
        table.add_row(Text(str(name)), format_ms(row["mean_ms"]), *figures, format_share(row["share"]))
    return table


def _modules(report: Report) -> Table:
    table = figure_table("Inside the phases", "mean", "own time", "share")
    nested = {path.partition("/")[0] for path in report.modules.index if "/" in path}
    inside = report.modules[[path.partition("/")[0] in nested for path in report.modules.index]]
    shown = inside.nlargest(_MOST_MODULES, "inclusive_ms").index
    for path, row in inside.loc[inside.index.isin(shown)].iterrows():
        table.add_row(
            Text("  " * int(row["depth"]) + str(path).rpartition("/")[2]),
            format_ms(row["inclusive_ms"]),
            format_ms(row["exclusive_ms"]),
            format_share(row["share"]),
        )
    hidden = len(inside) - len(shown)
    if hidden:
        table.caption = f"{plural(hidden, 'shorter row')} not shown; --json has them all."
    return table


def _epochs(epochs: pd.DataFrame) -> Table:
    table = figure_table("Epoch", "steps", "mean", "median", "first step")
    for epoch, row in epochs.iterrows():
        times = [format_ms(row[key]) for key in ("mean_ms", "p50_ms", "first_ms")]
        table.add_row(f"{epoch:g}", f"{row['steps']:,.0f}", *times)
    return table


def _beside(report: Report) -> Table:
    table = figure_table("Beside the steps", "times", "in all", "each")
    for part in report.beside:
        each = part.seconds / part.count if part.count else part.seconds
        table.add_row(
            Text(part.name), f"{part.count:,}", format_ms(1000 * part.seconds), format_ms(1000 * each)
        )
    return table


def _scalars(scalars: pd.DataFrame) -> Table:
    table = figure_table("Number", "values", "first", "last", "lowest", "highest")
    for name, row in scalars.head(_MOST_SCALARS).iterrows():
        figures = [_figure(str(name), float(row[key])) for key in ("first", "last", "min", "max")]
        table.add_row(Text(str(name)), f"{row['count']:,.0f}", *figures)
    hidden = len(scalars) - _MOST_SCALARS
    if hidden > 0:
        table.caption = f"{plural(hidden, 'more number')} not shown; --json has them all."
    return table


def _figure(name: str, value: float) -> str:
    if pd.isna(value):
        return "-"
    if name.endswith("_bytes"):
        return format_bytes(value)
    if name.endswith("_ms"):
        return format_ms(value)
    return format_share(value) if name.endswith(_SHARES) else f"{value:.4g}"


def _trace(trace: TraceFigures) -> Table:
    table = figure_table(f"In {plural(trace.steps, 'step')} of the trace", "a step", "share")
    rows = [(name, float(getattr(trace, key))) for name, key in _PARTS_OF_A_TRACE]
    rows += [(f"kernel {name}", us) for name, us, _ in trace.kernels[:_MOST_KERNELS]]
    rows += [(f"wait in {name}", us) for name, us, _ in trace.waits[:_MOST_KERNELS]]
    for name, us in rows:
        if us > 0:
            share = format_share(us / trace.step_us) if trace.step_us > 0 else "-"
            label = Text(name)
            label.truncate(_LONGEST_NAME, overflow="ellipsis")
            table.add_row(label, format_ms(us / 1000), share)
    return table
