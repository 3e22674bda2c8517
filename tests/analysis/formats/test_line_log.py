import math

import pytest

from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.errors import DeblurkitError

NAN = math.nan


@pytest.fixture
def log():
    return LineLog("x.log", "some", expected="step 1")


def test_nothing_is_an_error_that_says_what_was_expected(log):
    log.damaged()
    with pytest.raises(
        DeblurkitError, match="x.log: no step in it: expected lines like `step 1`; 1 line could"
    ):
        log.finish()


def test_events_alone_are_a_log(log):
    log.other(b"RuntimeError: CUDA out of memory")
    found = log.finish()
    assert (len(found.steps), found.num_steps, found.times.shape) == (0, 0, (0, 0))
    assert [(event.kind, event.step) for event in found.events] == [("oom", None)]


def test_numbers_that_no_step_can_have_are_damage(log):
    for number in (-1, 10**15, 3):
        log.step(number, line=b"")
    found = log.finish()
    assert found.steps["step"].tolist() == [3]
    assert found.damaged_lines == 2


def test_absurd_times_are_not_known(log):
    for number, (seconds, data_s) in enumerate([(-1.0, 0.1), (1e30, NAN), (0.5, 0.7), (0.5, 0.1)], 1):
        log.step(number, line=b"", seconds=seconds, data_s=data_s)
    found = log.finish()
    assert found.steps["total_ms"].tolist() == [pytest.approx(NAN, nan_ok=True)] * 2 + [500, 500]
    assert found.times["compute"].tolist()[2:] == [0, 400]
    assert found.times["data"].isna().tolist() == [True, True, False, False]


def test_phases_are_known_only_where_the_length_of_the_step_is(log):
    for number in (1, 2, 3):
        log.step(number, line=b"", unix_s=100.0 * number, phases=(("forward",), (30_000.0,)))
    found = log.finish()
    assert found.times["forward"].isna().tolist() == [True, False, False]
    assert found.steps["total_ms"].tolist()[1:] == [100_000, 100_000]


def test_columns_are_of_the_documented_types(log):
    log.step(7, line=b"", unix_s=1.5, epoch=2, learning_rate=0.1)
    steps = log.finish().steps
    assert steps.dtypes.astype(str).to_dict() == {
        "step": "int64",
        "total_ms": "float64",
        "wall_known": "bool",
        "unix_s": "float64",
        "count": "int64",
        "epoch": "float64",
    }


def test_a_loss_that_is_not_finite_is_told_once_until_it_recovers(log):
    for number, loss in enumerate([1.0, NAN, math.inf, 1.0, NAN], 1):
        log.step(number, line=b"", numbers=(("loss", "grad_norm"), (loss, NAN)))
    assert [(event.kind, event.step) for event in log.finish().events] == [("nonfinite", 2), ("nonfinite", 5)]


def test_an_epoch_that_begins_is_told_and_takes_no_step_away(log):
    for number in range(1, 7):
        log.step(number, line=b"", unix_s=10.0 * number, epoch=number // 4)
    found = log.finish()
    assert [(event.kind, event.step) for event in found.events] == [("epoch", 3)]
    assert found.steps["total_ms"].isna().sum() == 1


def test_the_sizes_that_lines_tell(log):
    for line in (b"World size (gpu number): 8", b"Batch size per gpu: 4"):
        log.other(line)
    log.step(1, line=b"")
    found = log.finish()
    assert (found.world_size, found.samples_per_step) == (8, 32)


def test_more_names_of_numbers_than_a_log_can_have(log):
    for number in range(1, 600):
        log.step(number, line=b"", numbers=((f"name {number}",), (1.0,)))
    found = log.finish()
    assert len(found.scalars) == 500
    assert "only the first 500 are kept" in " ".join(found.notes)


def test_where_every_interval_holds_a_pause_they_are_part_of_the_steps(log):
    for number in range(1, 5):
        log.other(b"Saving models and training states.")
        log.step(number, line=b"", unix_s=100.0 * number)
    found = log.finish()
    assert found.steps["total_ms"].tolist()[1:] == [100_000] * 3
    assert "Every interval holds a validation" in " ".join(found.notes)
