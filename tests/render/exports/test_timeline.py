import dataclasses
import math

import pytest

from deblurkit.render.exports.timeline import Timeline


def timeline(report, unix_s):
    steps = report.log.steps.assign(unix_s=unix_s)
    return Timeline(dataclasses.replace(report, log=dataclasses.replace(report.log, steps=steps)))


@pytest.mark.parametrize(
    ("unix_s", "starts"),
    [
        ([1000.1, 1000.5, 1001.0], [1000.0, 1000.39, 1000.88]),
        ([math.nan] * 3, [0.0, 0.1, 0.21]),
        ([1000.1, 1000.15, 1000.2], [1000.0, 1000.1, 1000.21]),  # too little room
        ([math.nan, 1000.21, math.nan], [1000.0, 1000.1, 1000.21]),  # of the second alone
        ([1000.1, 900.0, 1002.0], [1000.0, 1000.1, 1001.88]),  # a clock that was set back
    ],
)
def test_steps_lie_where_the_wall_time_puts_them(rank_report, unix_s, starts):
    placed = timeline(rank_report(), unix_s)  # of 0.1, 0.11 and 0.12 s
    assert placed.starts_s.tolist() == pytest.approx(starts)
    assert (placed.ends_s - placed.starts_s).tolist() == pytest.approx([0.1, 0.11, 0.12])


def test_a_moment_is_the_own_one_or_that_of_the_step(rank_report):
    placed = timeline(rank_report(), [math.nan] * 3)
    assert placed.moment(2, 77.0) == 77.0
    assert placed.moment(2, math.nan) == pytest.approx(0.21)
    assert placed.moment(2.0, None) == pytest.approx(0.21)
    assert placed.moment(9, None) is None
    assert placed.moment(None, None) is None
    assert placed.moment(math.nan, math.nan) is None
