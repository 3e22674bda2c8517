from dataclasses import replace

import pytest

from deblurkit.timing.peaks import Peak
from deblurkit.training.profiling.partition import Piece
from deblurkit.training.profiling.records import Passes, Subject
from deblurkit.training.profiling.summary import Measured, ordered, summarise

SUBJECT = Subject("vrt", 10, "cpu", "CPU", "fp32", (2, 3, 3, 8, 8), None, 3, "synthetic", False)


def piece(phase, row, begin, end, kind=""):
    return Piece(phase, row, kind, (begin,), (end,))


def work(phase, row, flops, moved, kind=""):
    return Piece(phase, row, kind, (0.0, 0.0, 0.0), (1.0, flops, moved))


STEP = [
    piece("data", "", 0.0, 0.1),
    piece("forward", "", 0.1, 0.2),
    piece("forward", "g/a", 0.2, 0.4),
    piece("forward", "g/a/x", 0.4, 0.5),
    piece("backward", "g/a", 0.5, 0.8),
    piece("backward", "g/a", 0.8, 0.9, "attention"),
]
MEASURED = Measured(
    subject=SUBJECT,
    warmup=1,
    timelines=[STEP, STEP],
    wall_seconds=[1.0, 1.2],
    work=[
        work("forward", "g/a", 1e6, 100.0),
        work("forward", "g/a/x", 2e6, 10.0),
        work("backward", "g/a", 4e6, 50.0),
        work("backward", "g/a", 1e6, 0.0, "attention"),
    ],
    work_factor=3,
    peak_bytes={"forward": 7, "backward": 9},
    calls={"g/a": 3},
    modules={"g/a": ("a",), "g/a/x": ("a.x",)},
    parameter_bytes={"g/a": 40, "g/a/x": 30},
)


@pytest.fixture(scope="module")
def profile():
    return summarise(MEASURED)


def test_phases_and_what_none_covers_are_the_wall_time(profile):
    assert [phase.name for phase in profile.phases][-1] == "unaccounted"
    assert sum(phase.mean_ms for phase in profile.phases) == pytest.approx(profile.step_ms) == 1100
    assert sum(phase.share for phase in profile.phases) == pytest.approx(1)
    assert profile.phase_ms("unaccounted") == pytest.approx(200)
    assert profile.phase_ms("transfer") == 0 and profile.peak_bytes == 9


def test_own_times_add_up_to_forward_and_backward(profile):
    whole = sum((row.own_ms for row in profile.rows), profile.outside_ms)
    assert whole.forward == pytest.approx(profile.phase_ms("forward")) == pytest.approx(400)
    assert whole.backward + whole.recompute == pytest.approx(profile.phase_ms("backward"))
    assert profile.recompute_ms == {"attention": pytest.approx(100)}


def test_a_row_holds_those_inside_it(profile):
    group, a, x = profile.rows
    assert [row.name for row in profile.rows] == ["g", "g/a", "g/a/x"]
    assert group.own_ms == Passes() and group.ms == a.ms and group.calls == 0
    assert (a.ms.forward, a.own_ms.forward) == (pytest.approx(300), pytest.approx(200))
    assert x.ms.total == pytest.approx(100) and a.share == pytest.approx(700 / 1100)
    assert (group.parameter_bytes, a.parameter_bytes, x.parameter_bytes) == (40, 40, 30)


def test_operations_are_of_all_micro_steps(profile):
    a = profile.rows[1]
    assert a.flops == Passes(9e6, 12e6, 3e6) and a.bytes_moved.total == 3 * 160
    assert a.flops_per_second == pytest.approx(24e6 / 0.7)
    assert profile.flops.total == 24e6


def test_utilisation_leaves_out_what_is_made_again(profile):
    peak = Peak("GPU", "fp32", 100e6, "a sheet")
    assert profile.utilisation is None and profile.rows[1].utilisation(None) is None
    with_peak = replace(profile, peak=peak)
    assert with_peak.utilisation == pytest.approx(21e6 / 1.1 / 100e6)
    assert with_peak.rows[1].utilisation(peak) == pytest.approx(21e6 / 0.7 / 100e6)


def test_rows_follow_those_they_lie_in():
    assert ordered(["b/x/1", "a", "b/y", "b/x"]) == ["b", "b/x", "b/x/1", "b/y", "a"]
