"""Generated logs with planted changes; the truth is what was planted."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.compare import compare, fails
from deblurkit.analysis.compare_steps import Verdict
from deblurkit.analysis.findings import Finding, Gain
from deblurkit.analysis.formats.timing_text import read_text_log
from deblurkit.analysis.report import analyze
from deblurkit.analysis.tables import RunLog

PHASES = {"data": 20.0, "forward": 120.0, "backward": 240.0, "optimizer": 15.0}  # 400 ms with 5 in no phase
CHINESE = {"data": "数据加载", "forward": "前向传播", "backward": "反向传播", "optimizer": "参数更新"}


def phases_of(size, seed, **planted):
    generator = np.random.default_rng(seed)
    means = PHASES | planted
    return {name: mean * (1 + 0.05 * generator.normal(size=size)) for name, mean in means.items()}


def log_of(size, seed, *, samples=8, loss=None, source="x.jsonl", **planted):
    times = pd.DataFrame(phases_of(size, seed, **planted))
    steps = pd.DataFrame(
        {
            "step": np.arange(1, size + 1),
            "total_ms": times.sum(axis=1) + 5,
            "wall_known": True,
            "unix_s": np.nan,
            "count": 1,
            "epoch": np.nan,
        }
    )
    values = pd.DataFrame({"step": steps["step"], "unix_s": np.nan, "value": loss})
    scalars = {} if loss is None else {"loss": values.astype("float64")}
    return RunLog(source, "timing-jsonl", steps, times, size, samples, scalars=scalars)


def report_of(size, seed, **planted):
    return analyze(log_of(size, seed, **planted))


def chinese_report(size, seed, **planted):
    phases = phases_of(size, seed, **planted)
    blocks = []
    for step in range(size):
        rows = [f"{CHINESE[name]} : {values[step]:.2f}ms" for name, values in phases.items()]
        total = sum(values[step] for values in phases.values())
        edge = "=" * 80
        blocks.append("\n".join([edge, f"Step {step + 1}", edge, *rows, f"Total : {total:.2f}ms\n"]))
    return analyze(read_text_log("".join(blocks).encode().split(b"\n"), source="种子.log"))


@pytest.mark.parametrize(
    ("planted", "verdict"),
    [
        ({"data": 40.0}, Verdict("moderate", "slower")),  # 5 % of 400 ms
        ({"data": 68.0}, Verdict("material", "slower")),  # 12 %
        ({"backward": 220.0}, Verdict("moderate", "faster")),  # 1 / 0.95
        ({"backward": 192.0}, Verdict("material", "faster")),  # 1 / 0.88
        ({"data": 24.0}, Verdict("same", within=0.03)),  # 1 %
    ],
)
def test_a_planted_change_is_sized_and_laid_at_its_phase(planted, verdict):
    found = compare(report_of(500, 1), report_of(500, 2, **planted)).steps
    (phase, mean), change = next(iter(planted.items())), found.rows[0]
    assert found.verdict == verdict
    assert not found.step_ratio.excludes(1 + (mean - PHASES[phase]) / 400)
    assert change.key == phase
    assert not change.difference.excludes(mean - PHASES[phase])
    assert not change.share.excludes(1.0)
    assert {row.verdict for row in found.rows[1:]} == {"not shown to differ"}


def test_logs_of_one_distribution_differ_neither_moderately_nor_materially():
    reports = [report_of(60, seed) for seed in range(60)]
    found = [compare(a, b) for a, b in zip(reports[::2], reports[1::2], strict=True)]
    assert {comparison.steps.verdict.level for comparison in found} == {"same"}
    assert not any(fails(comparison, "moderate") for comparison in found)


def test_memory_between_steps_does_not_pass_for_a_change():
    def slow_waves(seed):
        noise = np.random.default_rng(seed).normal(size=400)
        waves = np.zeros(400)
        for at in range(1, 400):
            waves[at] = 0.8 * waves[at - 1] + noise[at]
        log = log_of(400, seed)
        times = log.times.assign(forward=log.times["forward"] + 30 * waves)
        steps = log.steps.assign(total_ms=times.sum(axis=1) + 5)
        return analyze(replace(log, times=times, steps=steps))

    found = [compare(slow_waves(seed), slow_waves(seed + 100)) for seed in range(20)]
    assert not any(fails(comparison, "moderate") for comparison in found)


def test_only_regressions_fail_and_only_from_their_size_on():
    slower, much = (compare(report_of(300, 1), report_of(300, 2, forward=120 + ms)) for ms in (20.0, 60.0))
    faster = compare(report_of(300, 1, forward=180.0), report_of(300, 2))
    assert [fails(slower, level) for level in ("moderate", "material")] == [True, False]
    assert [fails(much, level) for level in ("moderate", "material")] == [True, True]
    assert not fails(faster, "moderate")
    with pytest.raises(ValueError, match="expected one of moderate, material"):
        fails(faster, "large")


def test_a_log_compared_with_itself_is_the_same():
    report = report_of(100, 1)
    found = compare(report, report).steps
    assert found.verdict == Verdict("same", within=0.03)
    assert found.step_ratio.value == 1.0


def test_chinese_text_and_english_json_lines_are_matched_by_phase():
    comparison = compare(chinese_report(100, 1), report_of(100, 2, data=68.0))
    steps = comparison.steps
    assert {(row.names_a[0], row.names_b[0]) for row in steps.rows} == {(CHINESE[n], n) for n in PHASES}
    assert steps.verdict == Verdict("material", "slower")
    assert (steps.rows[0].key, steps.is_wall) == ("data", False)
    assert "Not both logs hold the wall time" in " ".join(comparison.notes)
    assert "A does not tell how many samples" in " ".join(comparison.notes)


def test_few_steps_and_summaries_abstain():
    line = b"forward : avg= 580.00ms  min= 575.00ms  max= 590.00ms  (n=1000)"
    summary = analyze(read_text_log([line], source="x"))
    for later in (report_of(12, 2, forward=580.0), summary):
        comparison = compare(report_of(300, 1), later)
        assert comparison.steps.verdict.level == "cannot tell"
        assert comparison.steps.step_ratio.value > 1.5
        assert not fails(comparison, "moderate")
    assert comparison.b.median_ms is None


def test_a_stall_is_told_by_the_median():
    log = log_of(200, 2)
    stalled = log.times.assign(data=np.where(np.arange(200) == 150, 60_000.0, log.times["data"]))
    log = replace(log, times=stalled, steps=log.steps.assign(total_ms=stalled.sum(axis=1) + 5))
    comparison = compare(report_of(200, 1), analyze(log))
    assert comparison.steps.verdict.level == "cannot tell"
    assert comparison.steps.median_ratio == pytest.approx(1.0, abs=0.02)
    assert "A few long steps make the difference" in " ".join(comparison.notes)


def test_logs_without_times_still_compare_their_losses():
    a = report_of(200, 1, loss=np.full(200, 0.5))
    later = log_of(200, 2, loss=np.full(200, 0.6))
    bare = analyze(replace(later, steps=later.steps.iloc[:0], times=later.times.iloc[:0], num_steps=0))
    comparison = compare(a, bare)
    assert comparison.steps.verdict == Verdict("cannot tell", why="B tells no time of a step")
    assert comparison.b.mean_ms is None
    assert [change.verdict for change in comparison.quality] == ["worse"]
    assert "two programs" not in " ".join(comparison.notes)
    other = analyze(replace(later, format="basicsr"))
    assert "two programs" in " ".join(compare(a, other).notes)


def test_another_batch_size_is_said_and_decided_by_the_sample():
    comparison = compare(report_of(200, 1), report_of(200, 2, samples=16, forward=240.0, backward=480.0))
    assert comparison.steps.per == "sample"
    assert comparison.steps.verdict == Verdict("moderate", "faster")  # 760 ms for 16 against 400 ms for 8
    assert "8 samples in A and 16 in B" in " ".join(comparison.notes)


def test_a_predicted_gain_that_came_true():
    gain = Gain(1.12, 1.08, 1.15, "1 / (1 - 0.107)")
    finding = Finding("data-bound", "warning", "title", "evidence", "remedy", gain=gain)
    before = replace(report_of(300, 1, data=68.0), findings=(finding,))
    (check,) = compare(before, report_of(300, 2)).gains
    assert check.verdict == "came true"
    assert check.measured.value == pytest.approx(448 / 400, rel=0.005)
