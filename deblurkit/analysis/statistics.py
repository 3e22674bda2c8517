"""Means, medians and shares of the phases of a step, and the time each module keeps for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from deblurkit.analysis.partition import top_level
from deblurkit.timing.records import UNACCOUNTED

_WARMUP_FACTOR = 3.0
_FEWEST_FOR_WARMUP = 3
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def warmup_length(step_ms: pd.Series[float]) -> int:
    """Return how many steps at the front took more than three times the median; 0 with fewer than 3 steps."""
    if len(step_ms) < _FEWEST_FOR_WARMUP:
        return 0
    usual = (step_ms <= _WARMUP_FACTOR * step_ms.median()).to_numpy()
    return int(np.argmax(usual))


def steps_back(numbers: pd.Series[int]) -> int:
    """Return how often a step's number is not above the one before it, as after a resume."""
    return int((numbers.diff() <= 0).sum())


def weighted_mean(values: pd.Series[float], weights: pd.Series[float] | None = None) -> float:
    """Return the mean of rows that stand for ``weights`` steps each; 1 each if None."""
    if weights is None:
        return float(values.mean())
    return float((values * weights).sum() / weights.sum())


def quantiles(
    values: pd.Series[float], at: Sequence[float], weights: pd.Series[float] | None = None
) -> list[float]:
    """Return the quantiles of rows that stand for ``weights`` steps each, as if each were that many rows."""
    numbers = values.to_numpy(dtype="float64")
    if weights is None:
        return [float(value) for value in np.quantile(numbers, at)]
    order = np.argsort(numbers, kind="stable")
    last = np.cumsum(weights.to_numpy(dtype="float64")[order]) - 1  # place of the last step of each row
    first = np.concatenate(([0.0], last[:-1] + 1))
    places = np.column_stack((first, last)).ravel()
    return [float(value) for value in np.interp(np.multiply(at, last[-1]), places, numbers[order].repeat(2))]


def spread(milliseconds: pd.Series[float], weights: pd.Series[float] | None = None) -> dict[str, float]:
    """Return ``mean``, ``p50``, ``p95``, ``p99``, ``min`` and ``max`` of a series, in its unit."""
    middle = quantiles(milliseconds, list(_QUANTILES.values()), weights)
    return {
        "mean": weighted_mean(milliseconds, weights),
        **dict(zip(_QUANTILES, middle, strict=True)),
        "min": float(milliseconds.min()),
        "max": float(milliseconds.max()),
    }


def phase_shares(
    times: pd.DataFrame,
    step_ms: pd.Series[float],
    unaccounted_ms: pd.Series[float] | None,
    weights: pd.Series[float] | None = None,
) -> dict[str, float]:
    """Return the share of each phase, the longest first: the column ``share`` of `phase_table`."""
    phases = _phases(times, unaccounted_ms)
    counts = 1.0 if weights is None else weights
    whole = float((step_ms * counts).sum())
    shares = {name: float((values * counts).sum()) / whole for name, values in phases.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _phases(times: pd.DataFrame, unaccounted_ms: pd.Series[float] | None) -> dict[str, pd.Series[float]]:
    """Return the phases that any step measured, and what they leave of each; none without them."""
    measured = {str(name): values for name, values in top_level(times).items() if values.notna().any()}
    return measured | {UNACCOUNTED: unaccounted_ms} if measured and unaccounted_ms is not None else measured


def phase_table(
    times: pd.DataFrame,
    step_ms: pd.Series[float],
    unaccounted_ms: pd.Series[float] | None,
    weights: pd.Series[float] | None = None,
) -> pd.DataFrame:
    """Return what each phase takes of a step.

    Args:
        times: a repaired partition: one row per step, inclusive milliseconds by full name.
        step_ms: length of each step.
        unaccounted_ms: time of each step that no phase covers, if that can be known.
        weights: steps that each row is the mean of; 1 each if None.

    Returns:
        Indexed by ``name``, longest first: ``mean_ms`` (summed time / number of steps, so that the column
        adds up to the mean step), ``p50_ms``, ``p95_ms``, ``p99_ms``, ``min_ms`` and ``max_ms`` (over the
        steps that measured the phase), ``share`` (summed time / summed step time; adds up to 1),
        ``measured`` (number of those steps). Empty where no phase is measured.
    """
    phases = _phases(times, unaccounted_ms)
    counts = pd.Series(1.0, index=step_ms.index) if weights is None else weights
    whole, steps = float((step_ms * counts).sum()), float(counts.sum())
    rows = {}
    for name, values in phases.items():
        measured = values.dropna()
        own = counts[measured.index]
        figures = spread(measured, None if weights is None else own)
        spent = figures.pop("mean") * float(own.sum())
        named = {f"{key}_ms": value for key, value in figures.items()}
        rows[name] = {"mean_ms": spent / steps, **named, "share": spent / whole, "measured": int(own.sum())}
    return _frame(rows, "name", _PHASE_COLUMNS).sort_values("share", ascending=False, kind="stable")


_PHASE_COLUMNS = ("mean_ms", "p50_ms", "p95_ms", "p99_ms", "min_ms", "max_ms", "share", "measured")


def module_table(
    times: pd.DataFrame, step_ms: pd.Series[float], weights: pd.Series[float] | None = None
) -> pd.DataFrame:
    """Return the rows of the partition as a tree: parents before children, siblings longest first.

    Returns:
        Indexed by ``path``: ``depth`` (0 for phases), ``inclusive_ms`` (mean per step), ``exclusive_ms``
        (the same less the children; 0 where the children overlap and exceed it), ``share`` of the step.
    """
    measured = times if len(step_ms) else times[[]]
    inclusive = {str(name): weighted_mean(values.fillna(0.0), weights) for name, values in measured.items()}
    children: dict[str, list[str]] = {}
    for path in sorted(inclusive, key=lambda path: -inclusive[path]):
        children.setdefault(path.rpartition("/")[0], []).append(path)
    mean_step = weighted_mean(step_ms, weights) if inclusive else 0.0
    rows = {}
    pending = children.get("", [])[::-1]
    while pending:
        path = pending.pop()
        inside = children.get(path, [])
        own = max(0.0, inclusive[path] - sum(inclusive[child] for child in inside))
        rows[path] = {
            "depth": path.count("/"),
            "inclusive_ms": inclusive[path],
            "exclusive_ms": own,
            "share": inclusive[path] / mean_step,
        }
        pending += inside[::-1]
    return _frame(rows, "path", ("depth", "inclusive_ms", "exclusive_ms", "share"))


def epoch_table(
    epochs: pd.Series[float], step_ms: pd.Series[float], weights: pd.Series[float] | None = None
) -> pd.DataFrame:
    """Return what a step takes in each epoch.

    Args:
        epochs: of each row; NaN unknown.
        step_ms: length of each row's step; NaN unknown.
        weights: steps that each row is the mean of; 1 each if None.

    Returns:
        Indexed by ``epoch``, in their order: ``steps``, ``mean_ms``, ``p50_ms``, and ``first_ms``, the length
        of the first step. Empty where no epoch is known.
    """
    known = epochs.notna() & step_ms.notna()
    rows = {}
    for epoch, own in step_ms[known].groupby(epochs[known], sort=True):
        counts = None if weights is None else weights[own.index]
        rows[epoch] = {
            "steps": len(own) if counts is None else int(counts.sum()),
            "mean_ms": weighted_mean(own, counts),
            "p50_ms": float(own.median()),
            "first_ms": float(own.iloc[0]),
        }
    return _frame(rows, "epoch", ("steps", "mean_ms", "p50_ms", "first_ms"))


def scalar_table(scalars: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return where each number beside the steps began and ended.

    Returns:
        Indexed by ``name``: ``count`` (of finite values), ``first``, ``last``, ``min``, ``max`` and
        ``not_finite`` (how many were NaN or infinite); NaN where no value is finite.
    """
    rows = {}
    for name, frame in scalars.items():
        values = frame["value"].to_numpy(dtype="float64")
        finite = values[np.isfinite(values)]
        ends = finite if len(finite) else np.array([np.nan])
        rows[str(name)] = {
            "count": len(finite),
            "first": float(ends[0]),
            "last": float(ends[-1]),
            "min": float(ends.min()),
            "max": float(ends.max()),
            "not_finite": len(values) - len(finite),
        }
    return _frame(rows, "name", ("count", "first", "last", "min", "max", "not_finite"))


def _frame(rows: Mapping[Any, Mapping[str, float]], index: str, columns: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame(list(rows.values()), columns=list(columns), index=pd.Index(list(rows), name=index))
    return table if len(table) else table.astype("float64")
