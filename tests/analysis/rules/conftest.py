import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.evidence import evidence_of
from deblurkit.analysis.partition import repair
from deblurkit.analysis.tables import RunLog


@pytest.fixture
def evidence():
    """Return a function that makes evidence: milliseconds by phase, numbers and events beside them."""

    def make(
        phases=None, *, steps=100, total=None, scalars=None, events=(), epochs=None, noise=0.01, **about
    ):
        generator = np.random.default_rng(0)
        times = pd.DataFrame(
            {name: ms * generator.normal(1, noise, steps) for name, ms in (phases or {}).items()},
            index=range(steps),
        )
        table = pd.DataFrame(
            {
                "step": range(1, steps + 1),
                "total_ms": np.nan if total is None else total,
                "wall_known": total is not None,
                "unix_s": np.nan,
                "count": 1,
                "epoch": np.nan if epochs is None else epochs,
            }
        ).astype({"total_ms": "float64"})
        frames = {name: frame_of(values, steps) for name, values in (scalars or {}).items()}
        log = RunLog(
            "x.log", "timing-jsonl", table, times, steps, scalars=frames, events=tuple(events), **about
        )
        partition = repair(log)
        return evidence_of(log, partition, partition.step_ms.dropna().index)

    return make


def frame_of(values, steps):
    """Evenly spread over the steps, the last one at the last step."""
    values = np.asarray(values, dtype="float64")
    at = np.round(np.arange(1, len(values) + 1) * steps / len(values))
    return pd.DataFrame({"step": at, "unix_s": np.nan, "value": values})
