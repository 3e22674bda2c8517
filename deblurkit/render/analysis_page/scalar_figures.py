"""Numbers that a log tells beside times, over the run: loss, quality, memory, use of the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblurkit.analysis.bins import bins
from deblurkit.analysis.run_axis import RunAxis, run_axis
from deblurkit.analysis.series import Floats, as_floats
from deblurkit.analysis.tables import RunLog
from deblurkit.render.analysis_page import colours
from deblurkit.render.analysis_page.figure import (
    Figure,
    Look,
    Trace,
    axis,
    banded,
    layout,
    powers_axis,
    step_axis,
)
from deblurkit.render.analysis_page.plain import in_plot
from deblurkit.units import GIB, plural

_MOST_SERIES = 8  # in a picture
_MOST_MARKS = 100  # of values that are no numbers
_WIDE = 30.0  # times the lowest value that the highest may be before the axis counts by powers of ten
_BEYOND = 1e15  # no number of a step
_LABEL = 36  # columns of a name


@dataclass(frozen=True)
class Panel:
    """A picture of series that share a unit.

    Attributes:
        title: its heading.
        names: of its series; a name that ends in ``/`` stands for all that begin with it.
        unit: of the axis.
        factor: from the log's values to that unit.
        form: of a value in the pointer's box, as d3 takes it.
        by_powers: whether the axis may count by powers of ten.
    """

    title: str
    names: tuple[str, ...]
    unit: str = ""
    factor: float = 1.0
    form: str = ",.4~g"
    by_powers: bool = False


PANELS = (
    Panel("Loss", ("loss", "loss/"), by_powers=True),
    Panel("Learning rate", ("learning_rate", "learning_rate/"), form=".3~g"),
    Panel("PSNR", ("psnr_db", "psnr_db/"), "dB"),
    Panel("SSIM", ("ssim", "ssim/")),
    Panel("LPIPS", ("lpips", "lpips/")),
    Panel("Norm of the gradient", ("grad_norm", "grad_norm/"), by_powers=True),
    Panel(
        "Memory",
        (
            "process_memory_bytes",
            "process_memory_bytes/",
            "cuda_reserved_bytes",
            "cuda_allocated_bytes",
            "cuda_peak_allocated_bytes",
            "cache_bytes",
        ),
        "GiB",
        1 / GIB,
    ),
    Panel("Memory of the machine in use", ("host_memory_share",), "%", 100.0, ",.1f"),
    Panel(
        "Use of the machine, hits of the cache",
        ("gpu_utilisation", "cpu_utilisation", "cache_hit_rate"),
        "%",
        100.0,
        ",.1f",
    ),
    Panel("Samples a second", ("samples_per_second",)),
)


def scalar_figures(log: RunLog, *, points: int) -> Iterator[Figure]:
    """Yield a picture for each group of numbers that the log holds, at most ``points`` points a line."""
    for panel in PANELS:
        series = _series(panel, log.scalars)
        if series:
            yield _figure(panel, series, points)


def _series(panel: Panel, scalars: Mapping[str, pd.DataFrame]) -> dict[str, pd.Series[float]]:
    """Return the panel's series by name, those of at least two finite values; the first ones if many."""
    parts = tuple(name for name in panel.names if name.endswith("/"))
    own = (name for name in scalars if name in panel.names or (parts and name.startswith(parts)))
    ordered = sorted(own, key=lambda name: name.count("/"))
    courses = {name: panel.factor * _by_step(scalars[name]) for name in ordered}
    drawn = [name for name, values in courses.items() if np.isfinite(values).sum() > 1]
    return {name: courses[name] for name in drawn[:_MOST_SERIES]}


def _by_step(frame: pd.DataFrame) -> pd.Series[float]:
    """Return the values in the order of their steps, the last one of each; where none is known, counted."""
    known = frame[frame["step"].abs() < _BEYOND]
    if not len(known):
        known = frame.assign(step=np.arange(1, len(frame) + 1))
    steps = known["step"].to_numpy(dtype=np.int64)
    values = pd.Series(known["value"].to_numpy(dtype=np.float64), index=steps)
    return values[~values.index.duplicated(keep="last")].sort_index()


def _figure(panel: Panel, series: Mapping[str, pd.Series[float]], points: int) -> Figure:
    data: list[Trace] = []
    for number, (name, values) in enumerate(series.items()):
        finite = values[np.isfinite(values)]
        place = run_axis(finite.index.to_numpy(dtype=np.int64))
        data += _line(panel, name, number, as_floats(finite), place, points)
        data += _no_numbers(values, height=float(finite.min()))
    own = layout(
        height=250,
        xaxis=step_axis(place),
        yaxis=axis(panel.unit, **_scale(panel, series)),
        hovermode="closest",
        showlegend=len(series) > 1,
    )
    return Figure(panel.title, _about(series), data, own)


def _line(panel: Panel, name: str, number: int, values: Floats, place: RunAxis, points: int) -> list[Trace]:
    unit = f" {panel.unit}" if panel.unit else ""
    label = in_plot(name.replace("_", " "), columns=_LABEL)
    look = Look(label, colours.drawn(number), colours.band(number), panel.form, unit)
    return banded(values, place, bins(len(values), points), look)


def _no_numbers(values: pd.Series[float], *, height: float) -> Iterator[Trace]:
    """Yield crosses where a value is NaN or infinite."""
    at = values.index[~np.isfinite(values)][:_MOST_MARKS].tolist()
    if at:
        yield {
            "type": "scatter",
            "x": at,
            "y": [height] * len(at),
            "mode": "markers",
            "marker": {"symbol": "x", "size": 9, "color": colours.WRONG},
            "showlegend": False,
            "hovertemplate": "step %{x:,}: no number<extra></extra>",
        }


def _scale(panel: Panel, series: Mapping[str, pd.Series[float]]) -> dict[str, object]:
    known = np.concatenate([as_floats(values[np.isfinite(values)]) for values in series.values()])
    low, high = float(known.min()), float(known.max())
    if panel.by_powers and low > 0 and high > _WIDE * low:
        return powers_axis(low, high)
    return {"range": [0, 105]} if panel.unit == "%" else {}


def _about(series: Mapping[str, pd.Series[float]]) -> str:
    bad = sum(int((~np.isfinite(values)).sum()) for values in series.values())
    return f"{plural(bad, 'value')} not finite: the crosses." if bad else ""
