from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.compare_scalars import Shift, memory_peaks, quality_changes, trace_shifts
from deblurkit.analysis.tables import RunLog, TraceFigures

TRACE = TraceFigures(
    steps=5,
    step_us=200_000.0,
    kernel_us=50_000.0,
    communication_us=0.0,
    exposed_communication_us=0.0,
    copy_us=0.0,
    data_us=10.0,
    runtime_us=10_000.0,
    operator_us=120_000.0,
    busy_share=0.25,
    launch_gap_us=90_000.0,
    sync_us=1_000.0,
    overlap_share=None,
    has_device=True,
)


def log_of(*, samples=None, **scalars):
    empty = pd.DataFrame()
    frames = {
        name: pd.DataFrame({"step": steps, "unix_s": np.nan, "value": values}).astype("float64")
        for name, (steps, values) in scalars.items()
    }
    return RunLog("x.log", "basicsr", empty, empty, 0, samples, scalars=frames)


def falling(steps, *, seed, plus=0.0):
    noise = 0.05 * np.random.default_rng(seed).normal(size=len(steps))
    return 1 / np.sqrt(steps) + noise + plus


def test_losses_of_one_distribution_show_no_difference():
    steps = np.arange(1, 1001)
    a, b = (log_of(loss=(steps, falling(steps, seed=seed))) for seed in (1, 2))
    (change,) = quality_changes(a, b)
    assert (change.name, change.by, change.points) == ("loss", "step", 500)
    assert (change.first, change.last) == (501, 1000)
    assert change.verdict == "no difference shown"


@pytest.mark.parametrize(("plus", "verdict"), [(0.05, "worse"), (-0.03, "better")])
def test_a_planted_difference_is_found_with_its_size(plus, verdict):
    steps = np.arange(1, 1001)
    a, b = (
        log_of(loss=(steps, falling(steps, seed=1))),
        log_of(loss=(steps, falling(steps, seed=2, plus=plus))),
    )
    (change,) = quality_changes(a, b)
    assert change.verdict == verdict
    assert not change.difference.excludes(plus)


def test_more_decibel_are_better_and_few_values_cannot_tell():
    a = log_of(psnr_db=(np.arange(30), np.full(30, 30.0)), ssim=([1, 2], [0.9, 0.91]))
    b = log_of(psnr_db=(np.arange(30), np.full(30, 31.0)), ssim=([1, 2], [0.9, 0.95]))
    psnr, ssim = quality_changes(a, b)
    assert (psnr.verdict, psnr.points) == ("cannot tell", 15)
    assert (ssim.verdict, ssim.difference.value) == ("cannot tell", pytest.approx(0.04))
    longer = [log_of(psnr_db=(np.arange(60), np.full(60, db))) for db in (30.0, 31.0)]
    assert quality_changes(*longer)[0].verdict == "better"


def test_only_steps_that_both_have_are_compared():
    steps = np.arange(1, 201)
    a, b = log_of(loss=(steps, 1.0 * steps)), log_of(loss=(steps[:100], 1.0 * steps[:100]))
    (change,) = quality_changes(a, b)
    assert (change.first, change.last, change.difference.value) == (51, 100, 0.0)
    assert quality_changes(a, log_of(loss=(steps + 500, steps))) == ()


def test_unlike_batches_are_compared_after_equal_numbers_of_samples():
    a = log_of(samples=4, loss=(np.arange(1, 101), 1000.0 - 4 * np.arange(1, 101)))  # 1000 - samples
    b = log_of(samples=8, loss=(np.arange(1, 51), 1000.0 - 8 * np.arange(1, 51)))
    (change,) = quality_changes(a, b)
    assert change.by == "sample"
    assert change.last == 400
    assert change.difference.value == pytest.approx(0.0)


def test_after_a_resume_the_last_value_of_a_step_counts_and_nan_does_not():
    a = log_of(loss=([1, 2, 3, 2, 3], [1.0, 9.0, 9.0, 2.0, 3.0]))
    b = log_of(loss=([1, 2, 3], [1.0, np.nan, 3.0]))
    (change,) = quality_changes(a, b)
    assert change.difference.value == 0.0


def test_peaks_of_memory_need_both_logs():
    a = log_of(cuda_reserved_bytes=([1, 2, 3], [5.0, 9.0, np.nan]), process_memory_bytes=([1], [7.0]))
    b = log_of(cuda_reserved_bytes=([1, 2], [4.0, 3.0]))
    assert memory_peaks(a, b) == (Shift("cuda_reserved_bytes", "bytes", 9.0, 4.0),)


def test_traces_are_compared_by_what_either_holds():
    shifts = {shift.name: shift for shift in trace_shifts(TRACE, replace(TRACE, busy_share=0.8, sync_us=0.0))}
    assert shifts["busy_share"] == Shift("busy_share", "share", 0.25, 0.8)
    assert shifts["sync_us"] == Shift("sync_us", "us", 1000.0, 0.0)
    assert "copy_us" not in shifts
    assert "overlap_share" not in shifts
    assert trace_shifts(TRACE, None) == ()
