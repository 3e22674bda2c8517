"""Reports on logs whose every figure is known."""

import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.report import analyze
from deblurkit.analysis.tables import RunLog

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def hostile():
    """Return a name that would run if it were not escaped."""
    return HOSTILE


@pytest.fixture
def make_log():
    """Return a function that makes a log from milliseconds by name."""
    return _log


@pytest.fixture
def make_report():
    """Return a function that makes a report from milliseconds by name."""
    return lambda times, **kwargs: analyze(_log(times, **kwargs), warmup_steps=0)


def _log(times, *, wall_ms=None, steps=None, unaccounted=0.0, scalars=None, **kwargs):
    count = len(next(iter(times.values()))) if times else len(wall_ms)
    table = pd.DataFrame(times, dtype="float64", index=range(count))
    top = table[[name for name in table if "/" not in name]].sum(axis=1)
    frame = pd.DataFrame(
        {
            "step": np.arange(1, count + 1) if steps is None else np.asarray(steps),
            "total_ms": top + unaccounted if wall_ms is None else wall_ms,
            "wall_known": True,
            "unix_s": np.nan,
            "count": 1,
            "epoch": np.nan,
        }
    )
    named = {
        name: pd.DataFrame({"step": np.arange(1.0, len(values) + 1), "unix_s": np.nan, "value": values})
        for name, values in (scalars or {}).items()
    }
    defaults = {"source": "run/timing.jsonl", "format": "timing-jsonl", "num_steps": count}
    return RunLog(steps=frame, times=table, scalars=named, **{**defaults, **kwargs})
