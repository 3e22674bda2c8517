import io
import json
import os
import sys

import pytest
import torch

from deblurkit.config.schema import as_values
from deblurkit.errors import DeblurkitError
from deblurkit.tuning.recommend import trial_child
from deblurkit.tuning.recommend.trial_child import at_its_largest, attempt
from deblurkit.tuning.recommend.trial_request import TrialRequest
from deblurkit.tuning.step_memory import measure_step, predict_step


@pytest.fixture
def request_of(tiny_config):
    """Return a function that makes a request for steps of the smallest network."""

    def make(*overrides, **settings):
        config = tiny_config("DATA.CROP_SIZE=16", "DATA.CLIP_LEN=1", "TRAIN.BATCH_SIZE=1", *overrides)
        steps = {"steps": 2, "warmup": 1, "least_seconds": 0.0}
        return TrialRequest(as_values(config), **(steps | settings))

    return make


def test_as_many_steps_are_timed_as_are_asked_for(request_of):
    found = attempt(request_of(steps=3))
    assert found.outcome == "measured" and len(found.step_seconds) == 3
    assert found.peak_bytes is None and found.reserved_bytes is None


def test_more_are_taken_until_they_took_long_enough_but_not_more_than_ten_times(request_of, monkeypatch):
    class Slow:
        """A clock by which every phase and every gap takes a tenth of a second."""

        name = "slow"
        now = 0.0

        def mark(self):
            self.now += 0.1
            return self.now

        def elapsed(self, start, end):
            return end - start

        def wait(self):
            pass

    monkeypatch.setattr(trial_child, "clock_for", lambda *device: Slow())
    request = request_of("TRAIN.GRADIENT_ACCUMULATION_STEPS=1", steps=1)
    (step,) = attempt(request).step_seconds
    # its beginning, five phases of a micro-step, the optimiser, and its end
    assert step == pytest.approx(0.8)
    enough = attempt(request_of("TRAIN.GRADIENT_ACCUMULATION_STEPS=1", steps=1, least_seconds=2.0))
    assert len(enough.step_seconds) == 3
    assert enough.phases == pytest.approx(dict.fromkeys(enough.phases, 0.1))
    most = attempt(request_of("TRAIN.GRADIENT_ACCUMULATION_STEPS=1", steps=1, least_seconds=1e6))
    assert len(most.step_seconds) == 10


def test_phases_are_of_all_micro_steps_together(request_of, monkeypatch):
    marks = []

    class Counting:
        name = "counting"

        def mark(self):
            marks.append(None)
            return len(marks)

        def elapsed(self, start, end):
            return float(end - start)

        def wait(self):
            pass

    monkeypatch.setattr(trial_child, "clock_for", lambda *device: Counting())
    found = attempt(request_of("TRAIN.GRADIENT_ACCUMULATION_STEPS=3"))
    assert found.phases == {"data": 3, "transfer": 3, "forward": 3, "loss": 3, "backward": 3, "optimizer": 1}


def test_the_peak_of_tensors_is_the_one_that_was_predicted(request_of):
    request = request_of("TRAIN.GRADIENT_ACCUMULATION_STEPS=2", follow_memory=True)
    found = attempt(request)
    from deblurkit.config.schema import Config

    predicted = predict_step(Config.model_validate(request.config)).step_peak_bytes
    assert found.peak_bytes == pytest.approx(predicted, rel=0.03)


def test_the_runs_own_data_can_be_taken(request_of):
    found = attempt(request_of(use_data=True, steps=1, least_seconds=0.0))
    assert found.outcome == "measured" and found.phases["data"] > 0


def raising(error):
    def fail(*arguments, **settings):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "detail", "memory"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
            "CUDA out of memory. Tried to allocate 2.00 GiB.",
            "device",
        ),
        (MemoryError("too much"), "too much", "host"),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."
            ),
            "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
            "host",
        ),
    ],
)
def test_out_of_memory_is_an_answer_that_says_which(request_of, monkeypatch, error, detail, memory):
    monkeypatch.setattr(trial_child, "workplace", raising(error))
    found = attempt(request_of())
    assert (found.outcome, found.detail, found.ran_out) == ("out of memory", detail, memory)


@pytest.mark.parametrize(("has_gpu", "memory"), [(True, "device"), (False, "host")])
def test_a_library_that_is_out_of_memory_is_so_where_it_computes(request_of, monkeypatch, has_gpu, memory):
    monkeypatch.setattr(trial_child, "workplace", raising(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")))
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    assert attempt(request_of()).ran_out == memory


def test_memory_that_runs_out_in_the_followed_step_leaves_the_times(request_of, monkeypatch):
    def fail(config):
        raise MemoryError

    monkeypatch.setattr(trial_child, "measure_step", fail)
    found = attempt(request_of(follow_memory=True))
    assert (found.outcome, found.peak_bytes, len(found.step_seconds)) == ("measured", None, 2)


def test_what_the_user_can_mend_is_an_answer_and_what_is_ours_is_not(request_of, monkeypatch):
    monkeypatch.setattr(
        trial_child, "workplace", raising(DeblurkitError("no dataset at DATA.ROOT\nsee there"))
    )
    found = attempt(request_of())
    assert (found.outcome, found.detail) == ("failed", "no dataset at DATA.ROOT")
    monkeypatch.setattr(trial_child, "workplace", raising(RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match="shapes"):
        attempt(request_of())


def test_schedules_are_taken_at_their_largest(tiny_config):
    grows = tiny_config(
        "DATA.TRAIN_CROP_SIZE=[16,24]",
        "DATA.TRAIN_CROP_EPOCHS=2",
        "DATA.TRAIN_CLIP_LEN=[2]",
        "DATA.TRAIN_CLIP_EPOCHS=1",
        "DATA.CLIP_LEN=3",
    )
    largest = at_its_largest(grows)
    assert largest.data.crops_by_epoch == ((0, 32),) and largest.data.clips_by_epoch == ((0, 3),)
    assert measure_step(largest).clip_shape == measure_step(grows).clip_shape


def test_without_a_schedule_the_configuration_stays_as_it_is(tiny_config):
    config = tiny_config("DATA.TRAIN_CROP_SIZE=16")
    assert at_its_largest(config) is config


def test_frozen_flow_is_timed_as_it_is_after_it_was_freed(request_of, monkeypatch):
    seen = []
    timed = trial_child._stretches

    def note(place, clock, request):
        seen.append(place.done_steps)
        return timed(place, clock, request)

    monkeypatch.setattr(trial_child, "_stretches", note)
    attempt(request_of("MODEL.FREEZE_FLOW_STEPS=500"))
    assert seen == [501]  # the freezing, and a step of warm-up


def test_the_answer_is_alone_on_standard_output(request_of, monkeypatch, capfd):
    request = request_of(steps=1)

    def chatty(asked):
        os.write(1, b"a C library says hello\n")
        return trial_child.TrialAnswer("failed", asked.config["MODEL"]["ARCH"])

    monkeypatch.setattr(trial_child, "attempt", chatty)
    monkeypatch.setattr(sys, "stdin", io.StringIO(request.as_json()))
    kept = os.dup(1)
    try:
        trial_child.main()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    told = capfd.readouterr()
    answer = json.loads(told.out)
    assert (answer["outcome"], answer["detail"]) == ("failed", "baseline")
    assert told.err == "a C library says hello\n"
