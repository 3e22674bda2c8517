"""What two logs tell beside times: quality at the same step, peaks of memory, figures of their traces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblurkit.analysis.bootstrap import Floats, Interval, interval, resample
from deblurkit.analysis.tables import RunLog, TraceFigures

FEWEST_POINTS = 20
QUALITY = {"loss": -1, "psnr_db": 1, "ssim": 1, "lpips": -1}  # 1 where more is better
_MEMORY = ("cuda_allocated_bytes", "cuda_reserved_bytes", "process_memory_bytes")
_SHARES = ("busy_share", "overlap_share")
_TIMES = (
    "step_us",
    "kernel_us",
    "operator_us",
    "runtime_us",
    "launch_gap_us",
    "sync_us",
    "data_us",
    "copy_us",
    "communication_us",
    "exposed_communication_us",
)


@dataclass(frozen=True)
class QualityChange:
    """A loss or score of two runs, over the later half of what both have.

    Attributes:
        name: see ``RunLog.scalars``.
        points: how many values of A were compared with B's.
        by: ``step`` where both are at the same step; ``sample`` where steps take unlike numbers of samples
            and both have seen as many.
        first, last: of these steps or samples.
        a, b: means over them.
        difference: B - A.
        verdict: ``better``, ``worse``, ``no difference shown`` or ``cannot tell`` (fewer than 20 points).
    """

    name: str
    points: int
    by: str
    first: float
    last: float
    a: float
    b: float
    difference: Interval
    verdict: str


@dataclass(frozen=True)
class Shift:
    """A single figure of two logs, without a spread.

    Attributes:
        name: of the figure, as in ``RunLog.scalars`` or ``TraceFigures``.
        unit: ``bytes``, ``us`` (a step) or ``share``.
        a, b: its values.
    """

    name: str
    unit: str
    a: float
    b: float


def quality_changes(a: RunLog, b: RunLog) -> tuple[QualityChange, ...]:
    """Return how the losses and scores that both logs hold compare."""
    names = [name for name in QUALITY if name in a.scalars and name in b.scalars]
    found = (_quality_change(name, a, b) for name in names)
    return tuple(change for change in found if change is not None)


def memory_peaks(a: RunLog, b: RunLog) -> tuple[Shift, ...]:
    """Return the peaks of memory that both logs hold, in bytes."""
    return tuple(
        Shift(name, "bytes", *peaks)
        for name in _MEMORY
        if len(peaks := [peak for log in (a, b) if (peak := _peak(log, name)) is not None]) == 2
    )


def trace_shifts(a: TraceFigures | None, b: TraceFigures | None) -> tuple[Shift, ...]:
    """Return the figures of two traces, none of them where one log is no trace."""
    return () if a is None or b is None else tuple(_shifts(a, b))


def _shifts(a: TraceFigures, b: TraceFigures) -> Iterator[Shift]:
    for name in (*_SHARES, *_TIMES):
        before, after = getattr(a, name), getattr(b, name)
        if before is not None and after is not None and (before or after):
            yield Shift(name, "share" if name in _SHARES else "us", float(before), float(after))


def _peak(log: RunLog, name: str) -> float | None:
    values = _finite(log.scalars[name]["value"]) if name in log.scalars else np.empty(0)
    return float(values.max()) if len(values) else None


def _quality_change(name: str, a: RunLog, b: RunLog) -> QualityChange | None:
    by_sample = _both_differ(a.samples_per_step, b.samples_per_step)
    before, after = (_curve(log, name, by_sample=by_sample) for log in (a, b))
    if not (len(before) and len(after)):
        return None
    within = (before.index >= after.index[0]) & (before.index <= after.index[-1])
    places = before.index[within].to_numpy(dtype=np.float64)
    places = places[len(places) // 2 :]
    if not len(places):
        return None
    old = before.loc[places].to_numpy(dtype=np.float64)
    new = np.interp(places, after.index.to_numpy(dtype=np.float64), after.to_numpy(dtype=np.float64))
    difference = _difference(new - old)
    return QualityChange(
        name=name,
        points=len(places),
        by="sample" if by_sample else "step",
        first=float(places[0]),
        last=float(places[-1]),
        a=float(old.mean()),
        b=float(new.mean()),
        difference=difference,
        verdict=_verdict(difference, QUALITY[name]),
    )


def _difference(differences: Floats) -> Interval:
    if len(differences) < FEWEST_POINTS:
        return Interval(float(differences.mean()))
    drawn = resample(differences[:, None])
    return interval(float(drawn.means[0]), drawn.draws[:, 0])


def _verdict(difference: Interval, better: int) -> str:
    if not difference.known:
        return "cannot tell"
    if not difference.excludes(0.0):
        return "no difference shown"
    return "better" if difference.value * better > 0 else "worse"


def _both_differ(a: int | None, b: int | None) -> bool:
    return a is not None and b is not None and a != b


def _curve(log: RunLog, name: str, *, by_sample: bool) -> pd.Series[float]:
    """Return the finite values in the order of their steps (or samples seen), the last one of each."""
    frame = log.scalars[name]
    values = pd.Series(frame["value"].to_numpy(), index=frame["step"].to_numpy(), dtype="float64")
    values = values[np.isfinite(values.to_numpy()) & np.isfinite(values.index.to_numpy(dtype=np.float64))]
    values = values[~values.index.duplicated(keep="last")].sort_index()
    return values.set_axis(values.index * (log.samples_per_step or 1)) if by_sample else values


def _finite(values: pd.Series[float]) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    return numbers[np.isfinite(numbers)]
