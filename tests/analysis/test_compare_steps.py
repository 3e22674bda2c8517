import numpy as np
import pytest

from deblurkit.analysis.bootstrap import Interval
from deblurkit.analysis.compare_steps import Run, Verdict, compare_steps, judge
from deblurkit.analysis.matched_rows import TimedSteps, match


def run_of(name, phases, *, samples=None, wall=None, is_summary=False):
    steps = TimedSteps(
        step_ms=sum(phases.values()) if wall is None else wall,
        counts=np.ones(len(next(iter(phases.values())))),
        phases=phases,
        names={key: (key,) for key in phases},
        wall_known=wall is not None,
    )
    return Run(name, steps, samples, is_summary)


def change(a, b):
    return compare_steps(a, b, match(a.steps, b.steps))


def noisy(mean, size, seed):
    return mean * (1 + 0.05 * np.random.default_rng(seed).normal(size=size))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.09, 1.20, Verdict("material", "slower")),
        (1.07, 1.30, Verdict("moderate", "slower")),
        (1.031, 1.05, Verdict("moderate", "slower")),
        (1.01, 1.07, Verdict("same", within=0.08)),
        (0.98, 1.02, Verdict("same", within=0.03)),
        (1.01, 1.02, Verdict("same", within=0.03)),
        (0.95, 0.96, Verdict("moderate", "faster")),  # 1 / 0.96 = 1.042
        (0.80, 0.92, Verdict("material", "faster")),  # 1 / 0.92 = 1.087
        (0.80, 0.93, Verdict("moderate", "faster")),  # 1 / 0.93 = 1.075
    ],
)
def test_the_near_end_of_the_interval_decides(low, high, expected):
    assert judge(Interval((low + high) / 2, low, high)) == expected
    swapped = judge(Interval(1.0, 1 / high, 1 / low))
    assert (swapped.level, swapped.within) == (expected.level, expected.within)
    assert {swapped.direction, expected.direction} in ({""}, {"slower", "faster"})


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.2), (1.02, 1.10), (0.90, 0.98)])
def test_an_interval_that_holds_small_and_material_changes_tells_nothing(low, high):
    verdict = judge(Interval(1.0, low, high))
    assert verdict.level == "cannot tell"
    assert f"{low:.3f} to {high:.3f}" in verdict.why


def test_a_ratio_without_bounds_tells_nothing():
    assert judge(Interval(2.0)).level == "cannot tell"


def test_rows_add_up_to_the_change_of_the_step():
    a = run_of("A", {"data": noisy(20, 300, 1), "forward": noisy(100, 300, 2)}, wall=noisy(150, 300, 3))
    b = run_of("B", {"data": noisy(40, 200, 4), "forward": noisy(101, 200, 5)}, wall=noisy(175, 200, 6))
    found = change(a, b)
    step = b.steps.step_ms.mean() - a.steps.step_ms.mean()
    assert sum(row.difference.value for row in found.rows) == pytest.approx(step)
    assert sum(row.share.value for row in found.rows) == pytest.approx(1.0)
    assert found.rows[0].key == "data"
    assert found.rows[0].difference.value == pytest.approx(20, abs=0.5)
    assert found.rows[0].verdict == "slower"
    assert found.median_ratio == pytest.approx(np.median(b.steps.step_ms) / np.median(a.steps.step_ms))


def test_a_phase_is_not_shown_to_differ_where_only_chance_moves_it():
    a = run_of("A", {"data": noisy(20, 300, 1), "forward": noisy(100, 300, 2)})
    b = run_of("B", {"data": noisy(20, 300, 3), "forward": noisy(120, 300, 4)})
    assert {row.key: row.verdict for row in change(a, b).rows} == {
        "data": "not shown to differ",
        "forward": "slower",
    }


def test_without_wall_time_there_are_no_samples_a_second():
    a, b = (run_of(name, {"forward": noisy(100, 50, 1)}, samples=4) for name in "AB")
    found = change(a, b)
    assert found.samples_per_second_ratio is None
    assert found.sample_ratio.value == pytest.approx(1.0)
    assert not found.is_wall


def test_a_doubled_batch_is_judged_by_the_sample():
    a = run_of("A", {"forward": noisy(100, 100, 1)}, samples=4, wall=noisy(110, 100, 2))
    b = run_of("B", {"forward": noisy(180, 100, 3)}, samples=8, wall=noisy(198, 100, 4))
    found = change(a, b)
    assert found.per == "sample"
    assert found.step_ratio.value == pytest.approx(1.8, rel=0.02)
    assert found.sample_ratio.value == pytest.approx(0.9, rel=0.02)
    assert found.samples_per_second_ratio.value == pytest.approx(1 / 0.9, rel=0.02)
    assert found.median_ratio == pytest.approx(0.9, rel=0.02)
    assert found.verdict == Verdict("material", "faster")
    forward = next(row for row in found.rows if row.key == "forward")
    assert (forward.mean_a, forward.mean_b) == pytest.approx((25, 22.5), rel=0.02)
    assert forward.median_b == pytest.approx(22.5, rel=0.02)


def test_a_row_of_one_log_is_named_with_its_mean():
    a = run_of("A", {"forward": noisy(100, 50, 1)}, wall=noisy(120, 50, 2))
    b = run_of("B", {"forward": noisy(100, 50, 1), "ema": np.full(50, 4.0)}, wall=noisy(120, 50, 2))
    lone = change(a, b).rows[-1]
    assert (lone.key, lone.mean_a, lone.mean_b, lone.verdict) == ("ema", None, 4.0, "only in B")
    assert lone.difference is lone.share is None


@pytest.mark.parametrize(
    ("values", "is_summary", "reason"),
    [
        (np.full(19, 200.0), False, "B holds 19 steps behind its warm-up, and at least 20"),
        (np.full(1, 200.0), True, "B holds only means"),
        (np.linspace(100, 300, 60), False, "the steps of B drift"),
    ],
)
def test_thin_evidence_gives_figures_without_bounds_and_no_verdict(values, is_summary, reason):
    a = run_of("A", {"forward": noisy(100, 200, 1)})
    found = change(a, run_of("B", {"forward": values}, is_summary=is_summary))
    assert found.verdict.level == "cannot tell"
    assert reason in found.verdict.why
    assert found.step_ratio.value == pytest.approx(2.0, rel=0.02)
    assert not found.step_ratio.known
    assert [row.verdict for row in found.rows] == ["cannot tell"]


def test_logs_without_a_common_phase_or_wall_time_are_not_compared():
    found = change(run_of("A", {"data": noisy(1, 50, 1)}), run_of("B", {"forward": noisy(1, 50, 1)}))
    assert found.verdict.level == "cannot tell"
    assert "no common phase" in found.verdict.why
    assert found.step_ratio is None
