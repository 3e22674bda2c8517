"""Whatever a reader may return, a report comes of it: no traceback, no line too wide, no broken JSON."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from deblurkit.analysis.several_logs import analyze_all
from deblurkit.analysis.tables import Event, RunLog
from deblurkit.errors import DeblurkitError
from deblurkit.render.analysis import report_as_text
from deblurkit.render.analysis_json import reports_as_json
from deblurkit.timing.records import Beside

NAMES = [
    "data",
    "forward",
    "backward",
    "optimizer",
    "all_reduce",
    "backward/all_reduce",
    "前向传播",
    "a/b",
    "[b]",
]
SCALARS = [
    "loss",
    "learning_rate",
    "psnr_db",
    "samples_per_second",
    "printed_ms",
    "data_ms",
    "host_memory_share",
    "process_memory_bytes",
    "cuda_reserved_bytes",
    "cache_hit_rate",
    "gpu_utilisation",
    "cpu_utilisation",
    "loss/vgg",
]
KINDS = ["oom", "killed", "watchdog", "nonfinite", "error", "memory-warning", "validation", "checkpoint"]
KINDS += ["epoch", "resume", "start"]


@st.composite
def courses(draw, size):
    """Numbers of one of the kinds that logs hold, some of them missing."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["flat", "noise", "rising", "tails", "zero", "huge", "negative", "odd"]))
    values = {
        "flat": np.full(size, 100.0),
        "noise": generator.lognormal(3, 0.3, size),
        "rising": np.linspace(1, 300, size),
        "tails": np.abs(generator.standard_cauchy(size)),
        "zero": np.zeros(size),
        "huge": 10.0 ** generator.uniform(-300, 300, size),
        "negative": -generator.lognormal(1, 1, size),
        "odd": generator.choice([0.0, 1.0, np.inf, -np.inf, np.nan, 1e-320], size),
    }[kind]
    gaps = draw(st.sampled_from([0.0, 0.0, 0.3, 1.0]))
    return np.where(generator.random(size) < gaps, np.nan, values)


@st.composite
def logs(draw):
    size = draw(st.sampled_from([0, 1, 2, 7, 25, 60, 300]))
    times = {
        name: np.clip(np.nan_to_num(draw(courses(size)), nan=np.nan, posinf=1e11, neginf=0), 0, 1e11)
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
    }
    totals = np.clip(np.nan_to_num(draw(courses(size)), nan=np.nan, posinf=1e11), 0, 1e11)
    epochs = draw(st.sampled_from([np.nan, 1.0, np.arange(size) // 20]))
    back = draw(st.sampled_from([size + 1, 20]))
    steps = pd.DataFrame(
        {
            "step": np.arange(size) % back + draw(st.integers(0, 10**9)),
            "total_ms": totals,
            "wall_known": np.isfinite(totals) & draw(st.booleans()),
            "unix_s": np.nan,
            "count": draw(st.sampled_from([1, 10])),
            "epoch": epochs,
        }
    ).astype({"total_ms": "float64", "wall_known": "bool", "count": "int64"})
    scalars = {}
    for name in draw(st.lists(st.sampled_from(SCALARS), unique=True, max_size=6)):
        count = draw(st.sampled_from([1, 5, 40, 400]))
        places = draw(
            st.sampled_from([np.arange(count) * 1.0, np.full(count, np.nan), np.arange(count) % 7.0])
        )
        scalars[name] = pd.DataFrame({"step": places, "unix_s": np.nan, "value": draw(courses(count))})
    number = st.none() | st.integers(0, 400)
    events = draw(
        st.lists(
            st.builds(
                Event,
                st.sampled_from(KINDS),
                st.text(max_size=30),
                number,
                st.none(),
                st.none() | st.just(3.0),
            ),
            max_size=8,
        )
    )
    return RunLog(
        source="run/一 [x].log",
        format="basicsr",
        steps=steps,
        times=pd.DataFrame(times, index=steps.index, dtype="float64"),
        num_steps=int(steps["count"].sum()),
        samples_per_step=draw(st.none() | st.just(8)),
        rank=draw(st.none() | st.integers(0, 3)),
        beside=tuple(
            draw(
                st.lists(
                    st.builds(Beside, st.text(max_size=9), st.just(1.5), st.just(0), st.just(3)), max_size=2
                )
            )
        ),
        scalars=scalars,
        events=tuple(events),
        world_size=draw(st.none() | st.just(4)),
    )


def refuse(name):
    pytest.fail(f"{name} is not JSON")


@settings(max_examples=100, deadline=None)
@given(several=st.lists(logs(), min_size=1, max_size=3), warmup=st.none() | st.integers(0, 30))
def test_every_log_has_a_report(several, warmup):
    try:
        reports = analyze_all(several, warmup_steps=warmup)
    except DeblurkitError:
        return
    json.loads(reports_as_json(reports), parse_constant=refuse)
    for report in reports:
        assert max(map(cell_len, report_as_text(report).splitlines())) <= 100
        if len(report.phases):
            assert report.phases["share"].sum() == pytest.approx(1)
        for finding in report.findings:
            assert finding.severity in ("warning", "critical")
            if finding.gain is not None:
                assert 1 <= finding.gain.low <= finding.gain.high * (1 + 1e-9)
