import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.diagnosis import find
from deblurkit.analysis.rules.step_time import (
    backward_ratio,
    data_wait,
    exposed_communication,
    printed_too_short,
    slow_compute,
    unaccounted,
)

HEALTHY = {"data": 2.0, "forward": 100.0, "backward": 200.0}


def test_a_busy_cpu_changes_the_remedy(evidence):
    rows = {"data": 100.0, "forward": 100.0, "backward": 200.0}
    [idle] = find(evidence(rows, scalars={"cpu_utilisation": [0.5] * 10}))
    [busy] = find(evidence(rows, scalars={"cpu_utilisation": [0.93] * 10}))
    assert idle.keys[0] == "DATALOADER.TOTAL_WORKERS"
    assert busy.keys[0] == "DATA.USE_RAM_CACHE"
    assert "The CPU is 93.0 % busy." in busy.evidence


def test_a_printed_wait_counts_where_the_step_is_known(evidence):
    printed = {"data_ms": [30.0] * 20}
    assert data_wait(evidence(total=100.0, scalars=printed)).value == pytest.approx(0.3)
    assert data_wait(evidence({"net": 100.0}, scalars=printed)) is None  # how long a step is, is not known


@pytest.mark.parametrize(
    ("forward", "samples", "world", "slower"),
    [
        (1_800.0, None, None, 1.2),  # 1,800 of 1,500 ms a step
        (1_800.0, 12, 3, 0.46),  # 450 ms a sample of its rank, and 12 samples in 5.58 s
        (9_000.0, 3, 3, 9.3),  # 3 samples in 27.9 s: 9.3 times slower than one a second
        (1_000.0, None, None, 0.67),
    ],
)
def test_slow_computing_is_measured_against_the_limits_of_the_older_scripts(
    evidence, forward, samples, world, slower
):
    rows = {"data": 0.1 * forward, "forward": forward, "backward": 2 * forward}
    total = 3.1 * forward
    made = evidence(rows, total=total, noise=0.0, samples_per_step=samples, world_size=world)
    assert slow_compute(made).value == pytest.approx(slower, rel=0.02)


def test_slow_computing_is_about_steps_that_compute(evidence):
    assert slow_compute(evidence({"data": 2_000.0, "forward": 2_000.0, "backward": 3_000.0})) is None
    assert slow_compute(evidence({"forward": 2_000.0})) is None


def test_the_gain_of_mixed_precision_is_what_the_older_scripts_measured(evidence):
    rows = {"data": 100.0, "forward": 2_000.0, "backward": 4_000.0}
    [finding] = find(evidence(rows, noise=0.0))
    assert finding.id == "compute-bound"
    share = 6_000 / 6_100
    assert finding.gain.likely == pytest.approx(1 / (1 - 0.35 * share))
    assert (finding.gain.low, finding.gain.high) == pytest.approx(
        (1 / (1 - 0.30 * share), 1 / (1 - 0.40 * share))
    )
    assert finding.settings[0] == "TRAIN.AMP_ENABLED=true"


def test_what_backward_waits_for_other_ranks_is_no_recomputation(evidence):
    rows = {"forward": 100.0, "backward": 300.0, "backward/all_reduce": 90.0}
    assert backward_ratio(evidence(rows, noise=0.0)).value == pytest.approx(2.1)


def test_communication_that_was_measured_now_and_then_counts_in_full(evidence):
    made = evidence({**HEALTHY, "backward/all_reduce": 60.0}, total=320.0, noise=0.0)
    made.times.loc[made.times.index % 10 > 0, "backward/all_reduce"] = np.nan
    measured = exposed_communication(made)
    assert measured.value == pytest.approx(60 / 320)
    assert measured.saved.tolist() == [60.0] * 100
    assert {finding.id for finding in find(made)} == {"communication"}


def test_without_a_row_of_communication_nothing_is_said_of_it(evidence):
    assert exposed_communication(evidence(HEALTHY)) is None


def test_time_is_missing_only_from_logs_that_time_computing(evidence):
    assert unaccounted(evidence({**HEALTHY, "optimizer": 1.0}, total=400.0)).value == pytest.approx(
        97 / 400, abs=0.01
    )
    assert unaccounted(evidence({"data": 1.0}, total=400.0)) is None
    assert unaccounted(evidence(HEALTHY)) is None  # no wall time


def test_a_log_that_prints_a_third_of_its_own_time(evidence):
    """A real NAFNet log prints 0.24 s an iteration while its timestamps are 0.731 s apart."""
    made = evidence(total=731.0, scalars={"printed_ms": [240.0] * 100})
    measured = printed_too_short(made)
    assert measured.value == pytest.approx(1 - 240 / 731)
    [finding] = find(made)
    assert (finding.id, finding.severity) == ("unaccounted-time", "critical")
    assert "prints 240 ms a step and its own timestamps are 731 ms apart" in finding.evidence


@pytest.mark.parametrize(("printed", "count"), [(725.0, 100), (240.0, 9)])
def test_a_log_that_prints_its_time_or_hardly_prints_it_is_left_alone(evidence, printed, count):
    assert find(evidence(total=731.0, scalars={"printed_ms": [printed] * count})) == []


def test_stalls_do_not_make_a_printed_time_too_short(evidence):
    total = np.where(np.arange(100) % 20 == 7, 9_000.0, 500.0)
    made = evidence(total=total, scalars={"printed_ms": [500.0] * 100})
    assert printed_too_short(made).value == pytest.approx(0)
    assert pd.Series([finding.id for finding in find(made)]).tolist() == ["stall"]
