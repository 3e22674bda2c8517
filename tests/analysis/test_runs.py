import math

import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.runs import merged
from deblurkit.analysis.tables import Event, RunLog
from deblurkit.timing.records import Beside


def log_of(source, numbers, *, form="timing-jsonl", **named):
    numbers = list(numbers)
    steps = pd.DataFrame({"step": numbers, "total_ms": 10.0, "wall_known": True, "unix_s": math.nan})
    times = pd.DataFrame({"forward": np.full(len(numbers), 7.0)})
    return RunLog(source, form, steps, times, len(numbers), **named)


def training_log(source, **named):
    scalars = {"loss": pd.DataFrame({"step": [1.0, 2.0], "unix_s": math.nan, "value": [0.5, 0.25]})}
    return log_of(source, [1, 2], form="training-log", **{"scalars": scalars, **named})


def test_a_run_that_was_resumed_is_one_log_in_the_order_of_its_parts():
    late = log_of("run/logs/timing_1700000900.rank0.jsonl", range(11, 16), rank=0, damaged_lines=1)
    early = log_of("run/logs/timing_1700000100.rank0.jsonl", range(1, 13), rank=0, damaged_lines=2)
    (log,) = merged([late, early])
    assert log.steps["step"].tolist() == [*range(1, 13), *range(11, 16)]
    assert (log.num_steps, len(log.times), log.damaged_lines, log.rank) == (17, 17, 3, 0)
    assert log.source == early.source
    assert any("timing_1700000900.rank0.jsonl" in note for note in log.notes)


def test_what_begins_anew_or_elsewhere_is_another_run():
    first = log_of("run/logs/timing_1700000100.jsonl", range(1, 6))
    anew = log_of("run/logs/timing_1700000200.jsonl", range(1, 4))
    gap = log_of("run/logs/timing_1700000300.jsonl", range(9, 12))
    other = log_of("other/logs/timing_1700000400.jsonl", range(12, 14))
    assert [log.num_steps for log in merged([first, anew, gap, other])] == [5, 3, 3, 2]


def test_ranks_stay_apart():
    names = [f"run/logs/timing_1700000{at}00.rank{rank}.jsonl" for rank in (0, 1) for at in (1, 2)]
    parts = [range(1, 4), range(4, 7), range(1, 4), range(4, 7)]
    logs = merged(
        [log_of(name, part, rank=at // 2) for at, (name, part) in enumerate(zip(names, parts, strict=True))]
    )
    assert [(log.rank, log.num_steps) for log in logs] == [(0, 6), (1, 6)]


def test_the_training_log_gives_its_numbers_and_events_to_the_lowest_rank():
    one = log_of("run/logs/timing_1700000100.rank1.jsonl", [1, 2], rank=1)
    zero = log_of(
        "run/logs/timing_1700000100.rank0.jsonl", [1, 2], rank=0, beside=(Beside("validation", 3.0, 1, 2),)
    )
    train = training_log(
        "run/logs/train_1700000101.log",
        events=(Event("validation", "PSNR 30"),),
        beside=(Beside("validation", 2.9, 1, 2),),
        samples_per_step=8,
        damaged_lines=4,
    )
    logs = {log.rank: log for log in merged([one, zero, train])}
    assert set(logs) == {0, 1}
    assert logs[0].scalars["loss"]["value"].tolist() == [0.5, 0.25]
    assert [event.kind for event in logs[0].events] == ["validation"]
    assert logs[0].times["forward"].tolist() == [7.0, 7.0]
    assert logs[0].beside == zero.beside
    assert (logs[0].samples_per_step, logs[0].damaged_lines) == (8, 4)
    assert not logs[1].scalars


def test_a_training_log_goes_to_the_run_that_was_begun_with_it():
    runs = [log_of(f"run/logs/timing_{start}.jsonl", [1, 2]) for start in (1700000100, 1700005000)]
    first, second = merged([*runs, training_log("run/logs/train_1700004999.log")])
    assert not first.scalars and "loss" in second.scalars


def test_events_of_tensorboard_add_only_what_the_training_log_does_not_tell():
    timing = log_of("run/logs/timing_1700000100.jsonl", [1, 2])
    train = training_log("run/logs/train_1700000100.log", events=(Event("validation", "a"),))
    board = training_log(
        "run/logs/tensorboard/events.out.tfevents.1700000100.host.1.0",
        scalars={"loss": train.scalars["loss"] * 2, "psnr_db": train.scalars["loss"]},
        events=(Event("validation", "b"), Event("start", "c")),
    )
    board = RunLog(**{**vars(board), "format": "tensorboard"})
    (log,) = merged([board, train, timing])
    assert log.scalars["loss"]["value"].tolist() == [0.5, 0.25]
    assert "psnr_db" in log.scalars
    assert [event.text for event in log.events] == ["a", "c"]


def test_text_beside_json_lines_of_the_same_start_says_nothing_new():
    lines = log_of("run/logs/timing_1700000100.rank0.jsonl", [1, 2, 3], rank=0)
    text = log_of("run/logs/timing_1700000100.log", [1, 2], form="timing-text", rank=0)
    assert [log.format for log in merged([text, lines])] == ["timing-jsonl"]
    assert [log.num_steps for log in merged([text])] == [2]


@pytest.mark.parametrize("form", ["basicsr", "timing-summary", "training-log", "torch-trace"])
def test_logs_of_other_formats_stay_as_they_are(form):
    logs = [log_of(f"run/train_170000010{at}.log", [1, 2], form=form) for at in range(2)]
    assert merged(logs) == logs
