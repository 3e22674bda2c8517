import math

import pandas as pd
import pytest

from deblurkit.analysis.formats.tensorboard_steps import (
    Series,
    TimedSteps,
    printed_phases,
    steps_between,
    validations_of,
    with_epochs,
)
from deblurkit.analysis.formats.tensorboard_tags import meaning_of
from deblurkit.analysis.tables import Event


def series(tag, moments, value=1.0):
    one = Series(tag, meaning_of(tag))
    for step, unix_s in moments:
        one.add(step, unix_s, value)
    return one


def frame(rows):
    return pd.DataFrame(rows, columns=["step", "unix_s", "value"], dtype="float64")


def validation(unix_s):
    return Event("validation", "", 0, unix_s)


def test_a_row_is_the_mean_of_the_steps_since_the_value_before():
    found = steps_between([series("train/loss", [(10, 100.0), (20, 105.0), (40, 111.0)])], [])
    assert found.steps.drop(columns="epoch").to_dict("list") == {
        "step": [20, 40],
        "total_ms": [500.0, 300.0],
        "wall_known": [True, True],
        "unix_s": [105.0, 111.0],
        "count": [10, 20],
    }
    assert (found.tag, found.beside) == ("train/loss", ())


def test_the_clock_is_the_tag_written_most_but_for_averages_and_validations():
    often = [(step, float(step)) for step in range(9)]
    others = [series("val/loss", often), series("train_loss_epoch", often), series("epoch", often)]
    assert steps_between([*others, series("lr", often[:2]), series("loss", often[:3])], []).tag == "loss"


def test_what_a_validation_takes_is_what_exceeds_the_usual_pace():
    loss = series("loss", [(10, 10.0), (20, 20.0), (30, 30.0), (40, 75.0), (50, 85.0)])
    found = steps_between([loss], [validation(60.0), validation(70.0)])
    assert found.steps["step"].tolist() == [20, 30, 50]
    (beside,) = found.beside
    assert (beside.name, beside.seconds, beside.count, beside.after_step) == ("validation", 35.0, 2, 30)


@pytest.mark.parametrize("moments", [[], [(1, 5.0)], [(1, math.nan), (2, math.nan)], [(2, 5.0), (2, 6.0)]])
def test_without_two_moments_there_is_no_step(moments):
    assert len(steps_between([series("loss", moments)], []).steps) == 0
    assert len(steps_between([], []).steps) == 0


def test_steps_that_go_back_or_stand_still_and_a_clock_that_was_set_give_no_row():
    moments = [(10, 0), (20, 1), (30, 2), (20, 60), (20, 61), (30, 62), (40, 62), (50, 9e9)]
    steps = steps_between([series("loss", moments)], []).steps
    assert steps["step"].tolist() == [20, 30, 30]
    assert steps["total_ms"].tolist() == [100.0, 100.0, 100.0]


def test_timed_steps_need_their_end():
    timed = TimedSteps()
    timed.take("timing/data", 1.0, step=1, unix_s=5.0)
    timed.take("timing/data", 2.0, step=2, unix_s=6.0)  # the end of step 1 was lost
    timed.take("timing/前向//编码器", 3.0, step=2, unix_s=6.0)
    timed.take("timing/backward", math.nan, step=2, unix_s=6.0)
    timed.take("timing/step", 9.0, step=2, unix_s=7.0)
    timed.take("timing/step", -1.0, step=3, unix_s=8.0)
    steps, times = timed.frames()
    assert steps[["step", "total_ms", "unix_s"]].to_numpy().tolist() == [[2, 9.0, 7.0]]
    assert times.to_dict("list") == {"data": [2.0], "前向/编码器": [3.0]}


def test_a_validation_is_told_once_a_step():
    told = validations_of(
        [
            series("val/psnr", [(10, 7.0), (20, 9.0)], 31.25),
            series("val/ssim", [(10, 7.1), (20, 9.1)]),
            series("train/loss", [(10, 1.0)]),
        ]
    )
    assert [(event.step, event.unix_s, event.text) for event in told] == [
        (10, 7.0, "val/psnr: 31.25"),
        (20, 9.0, "val/psnr: 31.25"),
    ]


def test_an_epoch_holds_until_the_next_one():
    steps = pd.DataFrame({"step": [5, 10, 15, 25]})
    epochs = frame([(10, 0, 0.5), (20, 0, 1.0)])
    assert with_epochs(steps, epochs)["epoch"].tolist() == pytest.approx([math.nan, 0, 0, 1], nan_ok=True)
    assert with_epochs(steps, None) is steps
    assert with_epochs(steps, frame([(20, 0, 1.0), (10, 0, 0.0)])) is steps


def test_printed_times_are_rows_where_they_can_be_times():
    steps = pd.DataFrame({"step": [1, 2, 3, 4]})
    data = frame([(1, 0, 5.0), (2, 0, -1.0), (2, 0, 7.0), (3, 0, math.inf)])
    phases = printed_phases(steps, {"data_ms": data, "printed_ms": frame([(1, 0, 20.0), (2, 0, 6.0)])})
    assert phases["data"].tolist() == pytest.approx([5.0, 7.0, math.nan, math.nan], nan_ok=True)
    assert phases["compute"].tolist() == pytest.approx([15.0, 0.0, math.nan, math.nan], nan_ok=True)
    assert list(printed_phases(steps, {"printed_ms": data}).columns) == []
