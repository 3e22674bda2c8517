"""Reports to export: two ranks of three steps with Chinese rows, and a log without wall time."""

import math

import pandas as pd
import pytest

from deblurkit.analysis.report import analyze
from deblurkit.analysis.tables import Event, RunLog

BEGAN = 1_760_000_000.0


def _scalar_frame(rows):
    return pd.DataFrame(rows, columns=["step", "unix_s", "value"], dtype="float64")


def _rank_report(rank=0, *, source="run/timing.rank0.jsonl"):
    """Three steps of 100, 110 and 120 ms; 0.5 s between the second and the third."""
    steps = pd.DataFrame(
        {
            "step": [1, 2, 3],
            "total_ms": [100.0, 110.0, 120.0],
            "wall_known": True,
            "unix_s": [BEGAN + 0.1, BEGAN + 0.21, BEGAN + 0.83],
            "count": 1,
            "epoch": [0.0, 0.0, 1.0],
        }
    )
    times = pd.DataFrame(
        {
            "前向传播": [60.0, 60.0, 70.0],
            "前向传播/编码器": [20.0, 30.0, 40.0],
            "data": [math.nan, 10.0, 10.0],
            "backward": [30.0, 30.0, 30.0],
        }
    )
    scalars = {
        "loss": _scalar_frame([(1, BEGAN + 0.1, 0.5), (3, math.nan, 0.25), (math.nan, math.nan, math.inf)]),
        "psnr_db": _scalar_frame([(2, BEGAN + 0.5, 31.5)]),
    }
    events = (Event("validation", "after step 2", 2, BEGAN + 0.5), Event("oom", "no room", None, None))
    return analyze(
        RunLog(source, "timing-jsonl", steps, times, 3, rank=rank, scalars=scalars, events=events),
        warmup_steps=0,
    )


@pytest.fixture
def report_without_wall_time():
    """Two rows, each the mean of ten steps of 50 ms."""
    steps = pd.DataFrame(
        {
            "step": [10, 20],
            "total_ms": [50.0, 50.0],
            "wall_known": False,
            "unix_s": math.nan,
            "count": 10,
            "epoch": math.nan,
        }
    )
    times = pd.DataFrame({"forward": [20.0, 20.0], "backward": [30.0, 30.0]})
    return analyze(RunLog("other.log", "deepspeed", steps, times, 20), warmup_steps=0)


@pytest.fixture
def began():
    """When the first step of `rank_report` began."""
    return BEGAN


@pytest.fixture
def rank_report():
    return _rank_report


@pytest.fixture(params=["no phases", "no steps"])
def bare_report(request):
    """Three steps of which only the length is known, or numbers without any step."""
    count = 3 if request.param == "no phases" else 0
    steps = pd.DataFrame(
        {
            "step": range(1, count + 1),
            "total_ms": [100.0] * count,
            "wall_known": [True] * count,
            "unix_s": [BEGAN] * count,
            "count": [1] * count,
            "epoch": [math.nan] * count,
        }
    )
    times = pd.DataFrame(index=steps.index, dtype="float64")
    scalars = {"loss": _scalar_frame([(1, BEGAN, 0.5), (2, BEGAN + 1, 0.25)])}
    return analyze(RunLog("bare.log", "tensorboard", steps, times, count, scalars=scalars))
