"""The figures are worked out by hand from those that the fixture names."""

from dataclasses import replace

import pytest

from deblurkit.config.changed import changed
from deblurkit.tuning.recommend.records import Trial
from deblurkit.tuning.recommend.tables import (
    choices,
    comparison,
    measured_rate,
    median_step,
    named_line,
    run_length,
    steps_table,
)


def test_the_way_to_the_best_adds_one_change_a_row(recommendation):
    lines = steps_table(recommendation())
    assert [line.name for line in lines] == ["start", "+ optimizer adamw8bit", "+ batch 3 x 2"]
    assert [line.gain for line in lines] == pytest.approx([1.0, 1.2, 2.0])
    assert [line.epoch_seconds for line in lines] == pytest.approx([480, 400, 240])  # 1,200 clips
    assert [line.total_seconds for line in lines] == pytest.approx([24_000, 20_000, 12_000])  # 10,000 steps
    assert lines[-1].arithmetic == (
        "6 clips / 1.2 s = 5.00 samples/s",
        "5.00 / 2.50 = 2.00 x",
        "1,200 clips / 5.00 = 4 min 00 s an epoch",
        "50 epochs x that = 3 h 20 min",
    )


def test_without_a_way_the_start_stands_alone(recommendation):
    (line,) = steps_table(recommendation(path=(), best=None))
    assert (line.name, line.gain) == ("start", 1.0)
    assert line.arithmetic[0] == "6 clips / 2.4 s = 2.50 samples/s" and len(line.arithmetic) == 3


def test_each_change_alone_is_compared_with_the_start_fastest_first(recommendation):
    lines = comparison(recommendation())
    assert [(line.name, line.gain) for line in lines] == [
        ("start", 1.0),
        ("only batch 3 x 2", pytest.approx(1.6)),
        ("only optimizer adamw8bit", pytest.approx(1.2)),
        ("best: batch 3 x 2; optimizer adamw8bit", pytest.approx(2.0)),
    ]
    assert lines[1].forward_seconds == pytest.approx(1.5 / 4)


def test_three_choices_differ_by_what_speaks_for_them(recommendation):
    """The small network has 92 % of the best throughput in 12 GiB; what does not fit is none of them."""
    found = choices(recommendation())
    assert {reason: line.row.peak_bytes // 2**30 for reason, line in found.items()} == {
        "fastest": 24,
        "balanced": 12,
        "least memory": 12,
    }


def test_the_balanced_choice_is_not_slower_than_a_tenth(recommendation):
    found = recommendation()
    slow = replace(found.rows[1], estimate=replace(found.rows[1].estimate, seconds=1.4))  # 86 %
    found = replace(found, rows=(found.rows[0], slow, *found.rows[2:]))
    assert {reason: line.row.peak_bytes // 2**30 for reason, line in choices(found).items()} == {
        "fastest": 24,
        "balanced": 24,
        "least memory": 12,
    }


def test_what_failed_when_it_was_tried_is_no_choice(recommendation):
    found = recommendation()
    killed = Trial(found.rows[1].candidate.key, "killed", "SIGKILL", 1.0)
    found = replace(found, rows=(found.rows[0], replace(found.rows[1], trial=killed), *found.rows[2:]))
    assert choices(found)["least memory"].row.peak_bytes == 16 * 2**30
    batch = replace(found.rows[2], trial=killed)
    found = replace(found, rows=(*found.rows[:2], batch, *found.rows[3:]))
    assert "only batch 3 x 2" not in [line.name for line in comparison(found)]


def test_where_nothing_fits_there_is_no_choice(recommendation):
    assert choices(recommendation(best=None)) == {}


def test_the_run_is_as_long_as_its_epochs_or_its_steps_if_those_end_before(recommendation):
    found = recommendation()
    assert (run_length(found).steps, run_length(found).words) == (10_000, "50 epochs")
    config = changed(found.start.candidate.config, {"TRAIN.MAX_STEPS": 120})
    start = replace(found.start, candidate=replace(found.start.candidate, config=config))
    short = replace(found, start=start)
    assert (run_length(short).steps, run_length(short).words) == (120, "120 steps")
    assert named_line(short, found.best).total_seconds == pytest.approx(144)
    assert named_line(short, found.best).arithmetic[-1] == "120 steps x 1.2 s = 2 min 24 s"


def test_without_data_or_an_estimate_nothing_is_made_up(recommendation):
    found = recommendation(samples_per_epoch=None)
    line = named_line(found, found.best)
    assert (line.epoch_seconds, line.total_seconds, line.gain) == (None, None, pytest.approx(2.0))
    unknown = named_line(found, replace(found.best, estimate=None))
    assert (unknown.gain, unknown.step_seconds, unknown.forward_seconds, unknown.arithmetic) == (
        *(None, None, None),
        (),
    )
    untold = replace(found, start=replace(found.start, estimate=None))
    assert named_line(untold, found.best).gain is None


def test_a_trial_s_rate_is_that_of_its_median_step(recommendation):
    candidate = recommendation().start.candidate
    trial = Trial(candidate.key, "measured", "", 1.0, (1.0, 2.0, 9.0))
    assert measured_rate(candidate, trial) == pytest.approx(3.0)
    assert median_step(Trial(candidate.key, "killed", "SIGKILL", 1.0)) is None
