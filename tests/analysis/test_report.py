import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.report import analyze
from deblurkit.analysis.tables import Event, RunLog
from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import Beside


def log_of(lengths, *, samples=8, numbers=None, **more):
    steps = pd.DataFrame(
        {"step": numbers or range(1, len(lengths) + 1), "total_ms": lengths, "wall_known": True},
    ).astype({"total_ms": "float64"})
    times = pd.DataFrame({"forward": [0.3 * ms for ms in lengths], "backward": [0.6 * ms for ms in lengths]})
    return RunLog("x.jsonl", "timing-jsonl", steps, times, len(lengths), samples, **more)


def test_warmup_is_cut_and_said():
    report = analyze(log_of([5000] + [500] * 9))
    assert (report.steps, report.warmup_steps) == (10, 1)
    assert report.step_ms == dict.fromkeys(("mean", "p50", "p95", "p99", "min", "max"), 500.0)
    assert report.steps_per_second == pytest.approx(2.0)
    assert report.samples_per_second == pytest.approx(16.0)
    assert report.phases["share"].to_dict() == pytest.approx(
        {"backward": 0.6, "forward": 0.3, "unaccounted": 0.1}
    )
    assert "Warm-up: 1 step at the front" in report.notes[0]


def test_a_forced_warmup():
    assert analyze(log_of([5000] + [500] * 9), warmup_steps=0).step_ms["mean"] == 950.0
    with pytest.raises(DeblurkitError, match="--warmup 3 leaves no step"):
        analyze(log_of([1, 2, 3]), warmup_steps=3)


def test_samples_a_second_need_their_number():
    assert analyze(log_of([500] * 3, samples=None)).samples_per_second is None


def test_resumes_and_damage_are_told():
    report = analyze(log_of([500] * 4, numbers=[1, 2, 2, 3], damaged_lines=2))
    assert report.steps == 4
    assert "2 damaged lines" in " ".join(report.notes)
    assert "go back 1 time" in " ".join(report.notes)


def test_modules_that_were_timed_at_first_only_have_the_figures_of_those_steps():
    """Two steps of 200 and 100 ms with a module that took half of forward; then 100 ms without it."""
    log = log_of([200.0, 100.0, 100.0, 100.0])
    log.times["forward/stem"] = [30.0, 15.0, np.nan, np.nan]
    report = analyze(log)
    assert report.modules.loc["forward/stem"].tolist() == pytest.approx([1, 22.5, 22.5, 22.5 / 150])
    assert report.modules.loc["forward", "inclusive_ms"] == pytest.approx(45.0)
    assert report.phases.loc["forward", "mean_ms"] == pytest.approx(0.3 * 125)
    assert any("Modules were timed in 2 of 4 steps" in note for note in report.notes)


def test_modules_of_steps_without_a_length_are_spread_over_all():
    log = log_of([0.0, 100.0, 100.0])
    log.times["forward/stem"] = [30.0, np.nan, np.nan]
    report = analyze(log)
    assert report.modules.loc["forward/stem", "inclusive_ms"] == pytest.approx(10.0)
    assert not any("Modules were timed" in note for note in report.notes)


def test_a_log_of_zeros_is_refused():
    with pytest.raises(DeblurkitError, match="every time in it is zero"):
        analyze(log_of([0.0] * 3))


def rows_of(lengths, *, counts=1, phases=None, wall=True, **more):
    """A log of rows of which some have no length, as readers of other trainers return it."""
    steps = pd.DataFrame(
        {
            "step": np.cumsum(np.broadcast_to(counts, len(lengths))),
            "total_ms": np.asarray(lengths, dtype="float64"),
            "wall_known": np.isfinite(lengths) & wall,
            "unix_s": np.nan,
            "count": counts,
            "epoch": np.nan,
        }
    )
    times = pd.DataFrame(phases or {}, index=steps.index, dtype="float64")
    return RunLog("x.log", "basicsr", steps, times, int(steps["count"].sum()), **more)


def scalar(values):
    places = np.arange(1.0, len(values) + 1)
    return pd.DataFrame({"step": places, "unix_s": np.nan, "value": np.asarray(values, dtype="float64")})


def test_a_log_without_steps_has_findings_and_no_figures():
    log = rows_of([], scalars={"loss": scalar([0.3, 0.2])}, events=(Event("oom", "CUDA out of memory"),))
    report = analyze(log)
    assert (report.steps, report.step_ms, report.steps_per_second, report.trend) == (0, {}, None, None)
    assert report.phases.empty and report.modules.empty and report.epochs.empty
    assert report.verdict == "undetermined: the log does not tell how long a step takes"
    assert [finding.id for finding in report.findings] == ["oom"]
    assert report.scalars.loc["loss", "last"] == 0.2
    assert len(report.rows) == 0


def test_steps_of_unknown_length_are_as_good_as_none():
    report = analyze(rows_of([np.nan] * 5))
    assert (report.steps, report.step_ms) == (5, {})
    assert report.warmup_steps == 0
    assert analyze(rows_of([np.nan] * 5), warmup_steps=3).step_ms == {}


def test_a_wait_for_data_alone_is_no_step():
    report = analyze(rows_of([np.nan] * 30, wall=False, phases={"data": [0.1] * 30}))
    assert report.step_ms == {} and report.phases.empty


def test_lengths_alone_make_a_report():
    report = analyze(rows_of([np.nan] + [500.0] * 9, samples_per_step=4))
    assert report.step_ms["mean"] == 500
    assert (report.steps_per_second, report.samples_per_second) == (2, 8)
    assert report.phases.empty
    assert report.verdict.endswith("a step takes 500 ms")
    assert report.findings == ()
    assert any("1 line without a length" in note for note in report.notes)


def test_lines_that_stand_for_many_steps_weigh_as_many():
    report = analyze(rows_of([100.0] * 6 + [400.0], counts=[10] * 6 + [30]))
    assert report.steps == 90
    assert report.step_ms["mean"] == pytest.approx((6 * 1_000 + 12_000) / 90)
    assert any("A line stands for 10 steps" in note for note in report.notes)


def test_warmup_of_lines_that_stand_for_many_steps():
    log = rows_of([900.0, *[100.0] * 6], counts=10)
    assert analyze(log).warmup_steps == 10
    for wanted, left_out in [(0, 0), (1, 10), (10, 10), (11, 20)]:
        report = analyze(log, warmup_steps=wanted)
        assert (report.warmup_steps, len(report.rows)) == (left_out, 7 - left_out // 10)
    with pytest.raises(DeblurkitError, match="--warmup 61 leaves no step; the log holds 70 steps"):
        analyze(log, warmup_steps=61)


def test_means_of_a_run_have_no_percentiles():
    report = analyze(rows_of([100.0], counts=500, phases={"forward": [60.0]}))
    assert (report.steps, report.has_percentiles, report.trend, report.outliers) == (500, False, None, ())


def test_samples_a_second_as_the_log_prints_them():
    assert (
        analyze(rows_of([np.nan] * 5, scalars={"samples_per_second": scalar([3, 4, 5])})).samples_per_second
        == 4
    )


def test_pauses_between_lines_stand_beside_the_steps():
    events = (
        Event("validation", "Validation", 10, seconds=60.0),
        Event("validation", "Validation", 20, seconds=40.0),
        Event("checkpoint", "Saving", 20),
    )
    report = analyze(rows_of([100.0] * 30, events=events))
    assert [(part.name, part.seconds, part.count) for part in report.beside] == [("validation", 100.0, 2)]
    told = (Beside("validation", 99.0, 2, 30),)
    report = analyze(rows_of([100.0] * 30, events=events, beside=told))
    assert [(part.name, part.seconds) for part in report.beside] == [("validation", 99.0)]


def test_trend_changes_and_outliers_are_of_the_steps_after_the_warmup():
    lengths = [900.0] + [100.0] * 200 + [200.0] * 200
    lengths[50] = 470.0
    report = analyze(log_of(lengths))
    assert [(change.step, change.before, change.after) for change in report.changes] == [(202, 100, 200)]
    assert [(outlier.step, outlier.ms, outlier.row) for outlier in report.outliers] == [(51, 470, "backward")]
    assert report.trend.share > 0
    assert analyze(log_of([100.0] * 39)).trend is None
