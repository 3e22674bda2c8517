"""Means, medians and shares of the phases of a step, and the time each module keeps for itself."""

from __future__ import annotations

import numpy as np
import pandas as pd

from deblurkit.analysis.partition import top_level
from deblurkit.timing.records import UNACCOUNTED

_WARMUP_FACTOR = 3.0
_FEWEST_FOR_WARMUP = 3


def warmup_length(step_ms: pd.Series[float]) -> int:
    """Return how many steps at the front took more than three times the median; 0 with fewer than 3 steps."""
    if len(step_ms) < _FEWEST_FOR_WARMUP:
        return 0
    usual = (step_ms <= _WARMUP_FACTOR * step_ms.median()).to_numpy()
    return int(np.argmax(usual))


def steps_back(numbers: pd.Series[int]) -> int:
    """Return how often a step's number is not above the one before it, as after a resume."""
    return int((numbers.diff() <= 0).sum())


def spread(milliseconds: pd.Series[float]) -> dict[str, float]:
    """Return ``mean``, ``p50`` and ``p95`` of a series, in its unit."""
    middle, high = np.quantile(milliseconds.to_numpy(), [0.5, 0.95])
    return {"mean": float(milliseconds.mean()), "p50": float(middle), "p95": float(high)}


def phase_table(
    times: pd.DataFrame, step_ms: pd.Series[float], unaccounted_ms: pd.Series[float] | None
) -> pd.DataFrame:
    """Return what each phase takes of a step.

    Args:
        times: a repaired partition: one row per step, inclusive milliseconds by full name.
        step_ms: length of each step.
        unaccounted_ms: time of each step that no phase covers, if that can be known.

    Returns:
        Indexed by ``name``, longest first: ``mean_ms`` (summed time / number of steps, so that the column
        adds up to the mean step), ``p50_ms`` and ``p95_ms`` (over the steps that measured the phase),
        ``share`` (summed time / summed step time; adds up to 1), ``measured`` (number of those steps).
    """
    phases = {str(name): values for name, values in top_level(times).items()}
    if unaccounted_ms is not None:
        phases[UNACCOUNTED] = unaccounted_ms
    whole = float(step_ms.sum())
    rows = []
    for name, values in phases.items():
        measured = values.dropna()
        if len(measured):
            spent, figures = float(measured.sum()), spread(measured)
            rows.append(
                (name, spent / len(step_ms), figures["p50"], figures["p95"], spent / whole, len(measured))
            )
    table = pd.DataFrame(rows, columns=["name", "mean_ms", "p50_ms", "p95_ms", "share", "measured"])
    return table.sort_values("share", ascending=False, kind="stable").set_index("name")


def module_table(times: pd.DataFrame, step_ms: pd.Series[float]) -> pd.DataFrame:
    """Return the rows of the partition as a tree: parents before children, siblings longest first.

    Returns:
        Indexed by ``path``: ``depth`` (0 for phases), ``inclusive_ms`` (mean per step), ``exclusive_ms``
        (the same less the children; 0 where the children overlap and exceed it), ``share`` of the step.
    """
    inclusive = {str(name): float(values.sum()) / len(step_ms) for name, values in times.items()}
    children: dict[str, list[str]] = {}
    for path in sorted(inclusive, key=lambda path: -inclusive[path]):
        children.setdefault(path.rpartition("/")[0], []).append(path)
    mean_step = float(step_ms.mean())
    rows = []
    pending = children.get("", [])[::-1]
    while pending:
        path = pending.pop()
        inside = children.get(path, [])
        own = max(0.0, inclusive[path] - sum(inclusive[child] for child in inside))
        rows.append((path, path.count("/"), inclusive[path], own, inclusive[path] / mean_step))
        pending += inside[::-1]
    columns = ["path", "depth", "inclusive_ms", "exclusive_ms", "share"]
    return pd.DataFrame(rows, columns=columns).set_index("path")
