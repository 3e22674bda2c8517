import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.diagnosis import by_severity, find, verdict
from deblurkit.analysis.evidence import Evidence, without_rare_stalls
from deblurkit.analysis.findings import Finding

HEALTHY = {"data": 2.0, "transfer": 1.0, "forward": 100.0, "loss": 3.0, "backward": 205.0, "optimizer": 8.0}


def evidence_of(phases, *, steps=40, unaccounted=4.0, noise=0.01):
    generator = np.random.default_rng(0)
    times = pd.DataFrame({name: ms * generator.normal(1, noise, steps) for name, ms in phases.items()})
    gaps = None if unaccounted is None else pd.Series(np.full(steps, unaccounted))
    step_ms = times[[name for name in phases if "/" not in name]].sum(axis=1) + (unaccounted or 0.0)
    return Evidence(times, step_ms, gaps, pd.Series(range(101, 101 + steps)), steps, False)


def planted(evidence, at, name, extra):
    times, step_ms = evidence.times.copy(), evidence.step_ms.copy()
    times.loc[at, name] += extra
    step_ms[at] += extra
    return Evidence(times, step_ms, evidence.unaccounted_ms, evidence.step_numbers, evidence.num_steps, False)


def ids(evidence):
    return [(finding.id, finding.severity) for finding in find(evidence)]


def test_a_healthy_log_has_no_findings():
    evidence = evidence_of(HEALTHY)
    assert find(evidence) == []
    # by hand: 308 of 323 ms are forward, loss and backward; 2 are data
    assert verdict(evidence).startswith("compute-bound: forward + loss + backward are 95.")
    assert verdict(evidence).endswith("of a 323 ms step; data 0.6 %")


@pytest.mark.parametrize(("data", "severity"), [(30.0, None), (50.0, "warning"), (120.0, "critical")])
def test_data_bound_by_share(data, severity):
    found = ids(evidence_of({**HEALTHY, "data": data}))
    assert found == ([("data-bound", severity)] if severity else [])


def test_the_gain_is_worked_out():
    evidence = evidence_of({"data": 100.0, "forward": 100.0, "backward": 200.0}, unaccounted=0.0, noise=0.0)
    [finding] = find(evidence)
    assert "25.0 % of a 400 ms step over 40 steps" in finding.evidence
    assert finding.gain.likely == pytest.approx(400 / 300)
    assert finding.gain.low == pytest.approx(400 / 350)  # half of the wait stays
    assert finding.gain.high == pytest.approx(400 / 300)  # no noise, so no wider
    assert finding.gain.arithmetic.startswith("1 / (1 - 0.250)")
    assert finding.keys[0] == "DATALOADER.TOTAL_WORKERS"
    assert "DATALOADER.TRAIN_PREFETCH_FACTOR=8" in finding.settings
    assert verdict(evidence) == "data-bound: waiting for data is 25.0 % of a 400 ms step"


def test_nineteen_steps_are_too_few_to_speak_of_data():
    assert find(evidence_of({**HEALTHY, "data": 200.0}, steps=19)) == []


def test_data_beside_half_of_a_step_proves_nothing():
    assert find(evidence_of({"data": 50.0, "forward": 50.0}, unaccounted=None)) == []


def test_recompute_is_estimated_from_the_ratio():
    evidence = evidence_of({"forward": 100.0, "backward": 300.0}, unaccounted=0.0, noise=0.0)
    [finding] = find(evidence)
    assert (finding.id, finding.severity) == ("recompute", "warning")
    assert "a ratio of 3.00" in finding.evidence
    assert "About 100 ms a step (backward less 2 x forward)" in finding.evidence
    assert finding.gain.likely == pytest.approx(400 / (400 - 100))


def test_recompute_is_quoted_where_it_was_measured():
    rows = {"forward": 100.0, "backward": 300.0, "backward/recompute": 80.0}
    [finding] = find(evidence_of(rows, unaccounted=0.0, noise=0.0))
    assert "About 80.0 ms a step (measured)" in finding.evidence
    assert finding.gain.likely == pytest.approx(400 / (400 - 80))


def test_unaccounted_time():
    assert ids(evidence_of(HEALTHY, unaccounted=60.0)) == [("unaccounted-time", "warning")]
    assert ids(evidence_of(HEALTHY, unaccounted=None)) == []


def test_a_stall_is_named_by_its_step_and_its_phase_and_speaks_once():
    evidence = planted(evidence_of(HEALTHY), [17], "data", 3000.0)
    [finding] = find(evidence)
    assert (finding.id, finding.severity) == ("stall", "warning")  # 3,000 of 15,900 ms
    assert finding.evidence.startswith("Step 118 (3,")
    assert "data grew most, by 3,000 ms" in finding.evidence
    assert finding.steps == (118,)
    assert finding.keys[0] == "DATALOADER.TRAIN_PREFETCH_FACTOR"
    assert "(1 stall aside)" in verdict(evidence)


def test_frequent_stalls_count_in_every_figure():
    evidence = planted(evidence_of(HEALTHY), [3, 13, 23, 33], "data", 3000.0)
    assert {finding.id for finding in find(evidence)} == {"stall", "data-bound"}
    assert without_rare_stalls(evidence) is evidence


def test_means_alone_cannot_show_a_stall():
    times = pd.DataFrame({name: [ms] for name, ms in HEALTHY.items()})
    summary = Evidence(times, times.sum(axis=1), None, pd.Series([1000]), 1000, True)
    assert find(summary) == []


def test_no_verdict_on_half_a_log():
    half = verdict(evidence_of({"forward": 100.0}, unaccounted=None, noise=0.0))
    assert half == (
        "undetermined: the log has no row for data, backward or optimizer; forward is 100.0 % of the 100 ms a"
        " step that it lists"
    )


def test_a_mixed_step():
    rows = {"forward": 60.0, "backward": 40.0, "all_reduce": 100.0}
    assert verdict(evidence_of(rows, unaccounted=0.0, noise=0.0)) == (
        "mixed: no phase decides a 200 ms step; the longest are all_reduce 50.0 %, forward 30.0 %,"
        " backward 20.0 %"
    )


def test_critical_findings_come_first_and_an_id_comes_once():
    names = [("a", "warning"), ("b", "critical"), ("a", "critical"), ("c", "warning")]
    found = by_severity([Finding(id_, severity, "", "", "") for id_, severity in names])
    assert [(finding.id, finding.severity) for finding in found] == [
        ("b", "critical"),
        ("a", "critical"),
        ("c", "warning"),
    ]


def test_no_verdict_without_a_step():
    nothing = pd.Series(dtype="float64")
    empty = Evidence(pd.DataFrame(), nothing, None, pd.Series(dtype="int64"), 0, False)
    assert verdict(empty) == "undetermined: the log does not tell how long a step takes"
    assert find(empty) == []


def test_a_log_of_lengths_alone_tells_what_is_missing():
    lengths = pd.Series([100.0] * 30)
    alone = Evidence(pd.DataFrame(index=lengths.index), lengths, lengths, pd.Series(range(30)), 30, False)
    assert verdict(alone) == (
        "undetermined: the log has no row for data, forward, backward or optimizer; a step takes 100 ms"
    )
    assert find(alone) == []  # nothing is timed, so nothing is missing from it


def test_a_log_that_tells_the_wait_for_data_alone():
    lengths = pd.Series([500.0] * 30)
    waits = pd.DataFrame({"data": [5.0] * 30})
    printed = Evidence(waits.assign(compute=495.0), lengths, None, pd.Series(range(30)), 30, False)
    timed = Evidence(waits, lengths, pd.Series([495.0] * 30), pd.Series(range(30)), 30, False)
    for evidence in (printed, timed):
        assert find(evidence) == []
        assert verdict(evidence) == (
            "not data-bound: waiting for data is 1.0 % of a 500 ms step, and the log does not split the rest"
        )
    slow = Evidence(waits.assign(data=200.0, compute=300.0), lengths, None, pd.Series(range(30)), 30, False)
    assert ids(slow) == [("data-bound", "critical")]
    assert verdict(slow).startswith("data-bound")
