import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.evidence import evidence_of, without_rare_stalls
from deblurkit.analysis.partition import repair
from deblurkit.analysis.tables import RunLog


def log_of(lengths, *, counts=1, samples=None, scalars=None, form="basicsr"):
    steps = pd.DataFrame(
        {"step": range(1, len(lengths) + 1), "total_ms": lengths, "wall_known": True, "count": counts}
    ).astype({"total_ms": "float64"})
    times = pd.DataFrame({"forward": 0.5 * steps["total_ms"], "backward": 0.3 * steps["total_ms"]})
    return RunLog("x", form, steps, times, int(steps["count"].sum()), samples, scalars=scalars or {})


def evidence(log, skipped=0):
    partition = repair(log)
    return evidence_of(log, partition, partition.step_ms.index[skipped:])


def test_rows_that_do_not_count_leave_their_steps_behind():
    made = evidence(log_of([100.0] * 5, counts=[10, 10, 10, 10, 3]), skipped=2)
    assert (made.num_steps, len(made.step_ms)) == (23, 3)
    assert made.weights.tolist() == [10, 10, 3]
    assert evidence(log_of([100.0] * 5), skipped=1).weights is None


def test_means_of_a_whole_run_are_a_summary():
    assert evidence(log_of([100.0], counts=500)).is_summary
    assert not evidence(log_of([100.0])).is_summary


def test_shares_are_those_of_the_table():
    made = evidence(log_of([100.0, 300.0], counts=[3, 1]))
    assert made.shares == pytest.approx({"forward": 0.5, "backward": 0.3, "unaccounted": 0.2})
    assert made.shares == pytest.approx(made.phases["share"].to_dict())
    assert made.mean_step_ms == 150  # (3 x 100 + 300) / 4
    assert made.ms("forward", "backward") == pytest.approx(120)
    assert made.ms_of("unaccounted") == pytest.approx(30)


def test_rare_stalls_are_set_aside_with_all_the_steps_they_stand_for():
    lengths = [100.0] * 39 + [5_000.0]
    calm = without_rare_stalls(evidence(log_of(lengths, counts=10)))
    assert (calm.num_steps, calm.stalls_aside, calm.mean_step_ms) == (390, 10, 100)
    assert calm.basis == "390 steps, 10 stalls aside"


def test_samples_a_second_by_the_clock_before_those_that_are_printed():
    frame = pd.DataFrame({"step": [1.0, 2, 3], "unix_s": np.nan, "value": [3.0, np.nan, 5.0]})
    printed = {"samples_per_second": frame}
    assert evidence(log_of([500.0] * 3, samples=8, scalars=printed)).samples_per_second == 16
    assert evidence(log_of([500.0] * 3, scalars=printed)).samples_per_second == 4
    assert evidence(log_of([500.0] * 3)).samples_per_second is None


def test_numbers_that_are_none_do_not_count():
    frame = pd.DataFrame({"step": [1.0, 2], "unix_s": np.nan, "value": [np.nan, np.inf]})
    made = evidence(log_of([500.0] * 3, scalars={"loss": frame}))
    assert made.scalar("loss") is None
    assert made.scalar("psnr_db") is None
