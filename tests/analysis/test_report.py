import pandas as pd
import pytest

from deblurkit.analysis.report import analyze
from deblurkit.analysis.tables import TimingLog
from deblurkit.errors import DeblurkitError


def log_of(lengths, *, samples=8, numbers=None, **more):
    steps = pd.DataFrame(
        {"step": numbers or range(1, len(lengths) + 1), "total_ms": lengths, "wall_known": True},
    ).astype({"total_ms": "float64"})
    times = pd.DataFrame({"forward": [0.3 * ms for ms in lengths], "backward": [0.6 * ms for ms in lengths]})
    return TimingLog("x.jsonl", "timing-jsonl", steps, times, len(lengths), samples, **more)


def test_warmup_is_cut_and_said():
    report = analyze(log_of([5000] + [500] * 9))
    assert (report.steps, report.warmup_steps) == (10, 1)
    assert report.step_ms == {"mean": 500.0, "p50": 500.0, "p95": 500.0}
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


def test_a_log_of_zeros_is_refused():
    with pytest.raises(DeblurkitError, match="every time in it is zero"):
        analyze(log_of([0.0] * 3))
