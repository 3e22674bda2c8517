import numpy as np
import pytest

from deblurkit.analysis.bootstrap import Interval, Pair, means_only, resample
from deblurkit.analysis.findings import Finding, Gain
from deblurkit.analysis.predicted_gains import check_gains, gain_verdict

KEYS = ("data", "backward", "unaccounted")


def finding(id_, low, high):
    gain = Gain((low + high) / 2, low, high, "1 / (1 - share)")
    return Finding(id_, "warning", "title", "evidence", "remedy", gain=gain)


def side(seed, *, data=50.0, backward=100.0):
    rest = np.random.default_rng(seed).normal(50, 2, size=200)
    rows = np.column_stack([np.full(200, data), np.full(200, backward), rest])
    return resample(np.column_stack([rows.sum(axis=1), rows]), seed=seed)


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (Interval(1.3, 1.25, 1.35), "came true"),
        (Interval(1.1, 1.05, 1.15), "less than predicted"),
        (Interval(1.6, 1.5, 1.7), "more than predicted"),
        (Interval(1.2, 0.9, 1.5), "cannot tell"),
        (Interval(0.8, 0.7, 0.9), "less than predicted"),
        (Interval(1.3), "cannot tell"),
    ],
)
def test_a_prediction_meets_its_measurement(measured, verdict):
    assert gain_verdict(Gain(1.3, 1.2, 1.4, ""), measured) == verdict


def test_a_repaired_data_wait_came_true():
    pair = Pair(side(1), side(2, data=5.0))  # 200 ms to 155 ms
    (check,) = check_gains([finding("data-bound", 1.25, 1.35)], gone=["data-bound"], pair=pair, keys=KEYS)
    assert check.measured.value == pytest.approx(200 / 155, rel=0.01)
    assert (check.verdict, check.alone, check.phases) == ("came true", True, ("data",))


def test_what_another_phase_took_back_is_less_than_predicted():
    pair = Pair(side(1), side(2, data=5.0, backward=140.0))
    (check,) = check_gains([finding("data-bound", 1.25, 1.35)], gone=["data-bound"], pair=pair, keys=KEYS)
    assert check.verdict == "less than predicted"


def test_a_phase_that_did_not_shrink_is_not_checked():
    pair = Pair(side(1), side(2))
    assert check_gains([finding("data-bound", 1.2, 1.3)], gone=["data-bound"], pair=pair, keys=KEYS) == ()


def test_several_at_once_are_each_measured_by_their_own_phase():
    pair = Pair(side(1), side(2, data=5.0, backward=60.0))
    findings = [
        finding("data-bound", 1.25, 1.35),
        finding("recompute", 1.6, 1.7),
        finding("sync-bound", 1.1, 2),
    ]
    data, recompute, sync = check_gains(findings, gone=["sync-bound"], pair=pair, keys=KEYS)
    assert data.measured.value == pytest.approx(200 / 155, rel=0.01)
    assert recompute.measured.value == pytest.approx(200 / 160, rel=0.01)
    assert sync.measured.value == pytest.approx(200 / 115, rel=0.01)
    assert [check.verdict for check in (data, recompute, sync)] == [
        "came true",
        "less than predicted",
        "cannot tell",
    ]
    assert not data.alone


def test_a_finding_without_a_phase_of_its_own_is_checked_once_it_is_gone():
    pair = Pair(side(1), side(2, backward=60.0))
    findings = [finding("sync-bound", 1.2, 1.3)]
    (check,) = check_gains(findings, gone=["sync-bound"], pair=pair, keys=KEYS)
    assert (check.verdict, check.phases) == ("came true", ())
    assert check_gains(findings, gone=[], pair=pair, keys=KEYS) == ()


def test_without_a_spread_a_gain_is_shown_and_not_judged():
    rows = np.array([[200.0, 50.0, 100.0, 50.0]])
    pair = Pair(means_only(rows, np.ones(1)), means_only(rows - [[45, 45, 0, 0]], np.ones(1)))
    (check,) = check_gains([finding("data-bound", 1.25, 1.35)], gone=[], pair=pair, keys=KEYS)
    assert check.verdict == "cannot tell"
    assert check.measured == Interval(pytest.approx(200 / 155))


def test_a_finding_without_a_gain_predicts_nothing():
    quiet = Finding("data-bound", "warning", "title", "evidence", "remedy")
    assert check_gains([quiet], gone=["data-bound"], pair=Pair(side(1), side(2, data=5.0)), keys=KEYS) == ()
