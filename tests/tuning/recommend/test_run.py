"""A whole search with trials from a formula: what it answers, keeps, and leaves behind when it is stopped."""

import os
import signal
from functools import partial

import pytest

from deblurkit.config.load import load_config
from deblurkit.errors import DeblurkitError, UsageError
from deblurkit.tuning.recommend import groundwork
from deblurkit.tuning.recommend import run as module
from deblurkit.tuning.recommend.cards import prior_for_cpu
from deblurkit.tuning.recommend.loading import Loading
from deblurkit.tuning.recommend.place import Place
from deblurkit.tuning.recommend.records import INTERRUPTED, Budget, Candidate, Trial
from deblurkit.tuning.recommend.run import Question, recommend
from deblurkit.tuning.recommend.space_memory import predict_space
from deblurkit.tuning.recommend.step_jobs import predict_job
from deblurkit.tuning.recommend.stopping import Stopping
from deblurkit.tuning.recommend.tables import choices
from deblurkit.tuning.recommend.words import changed_axes


def seconds_of(candidate):
    """Return the seconds of a step on the test's machine: 20 ms a call, 5 ms a clip, and the states."""
    states = {"adamw": 0.010, "adamw8bit": 0.030}[candidate.config.train.optim.type]
    return candidate.accumulation * (0.020 + 0.005 * candidate.batch_size) + states


class Machine:
    def __init__(self, *, interrupt_at=None, outcome="measured"):
        self.tried, self._interrupt_at, self._outcome = [], interrupt_at, outcome
        self.limits = []

    def __call__(self, candidate, **limits):
        if len(self.tried) == self._interrupt_at:
            raise KeyboardInterrupt
        self.tried.append(candidate)
        self.limits.append(limits["limit_seconds"])
        if self._outcome != "measured" and candidate.settings:
            return Trial(candidate.key, self._outcome, "as told", 1.0)
        step = seconds_of(candidate)
        states = step - candidate.accumulation * (0.020 + 0.005 * candidate.batch_size)
        phases = {"forward": (step - states) / 3, "backward": (step - states) * 2 / 3, "optimizer": states}
        return Trial(candidate.key, "measured", "", 1.0, (step, 1.01 * step, 0.99 * step), phases)


PLACE = Place(
    device_kind="cpu",
    hardware="a machine of the test",
    prior=prior_for_cpu(2),
    gpus=(),
    can_measure=True,
    has_bf16=False,
    has_eight_bit=True,
    device_bytes=None,
    host_bytes=None,
)
NO_DATA = ["DATA.AUTO_SYNTHETIC=false", "DATA.ROOT=/nowhere"]
SMALL_PARTS = ["TRAIN.BATCH_SIZE=1", "TRAIN.GRADIENT_ACCUMULATION_STEPS=4"]  # the slowest by the formula


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder in which the predictions of all tests of this file are kept: they are made once."""
    return tmp_path_factory.mktemp("kept")


def unheard(text):
    """Hear of what takes long, and do nothing."""


def ask(kept, machine, *, budget=None, overrides=(), stopping=None, **asked):
    nowhere = ["DATA.AUTO_SYNTHETIC=false", "DATA.ROOT=/nowhere"]
    config = load_config("quickstart", None, [*SMALL_PARTS, *nowhere, *overrides], warn=lambda text: None)
    question = Question(config, budget or Budget(), **{"fresh": True, **asked})
    return recommend(question, message=unheard, run=machine, place=PLACE, store=kept, stopping=stopping)


def test_the_fastest_by_the_formula_is_recommended(kept):
    found = ask(kept, Machine())
    assert found.best is not None
    fastest = min((row.candidate for row in found.rows), key=seconds_of)
    assert found.best.candidate == fastest
    assert found.best.samples_per_second == pytest.approx(4 / seconds_of(fastest), rel=0.03)
    assert found.start.candidate.settings == {}
    assert found.recommended == fastest.config
    assert {row.candidate.effective_batch for row in found.rows} == {4}
    assert any("/nowhere" in note for note in found.notes)
    assert found.samples_per_epoch is None


def test_what_needs_more_than_the_budget_is_not_recommended(kept):
    whole = ask(kept, Machine())
    needs = sorted(row.peak_bytes for row in whole.rows)
    found = ask(kept, Machine(), budget=Budget(device_bytes=needs[1]))
    assert found.best is not None
    assert found.best.peak_bytes <= needs[1] < whole.best.peak_bytes
    assert [row.peak_bytes <= needs[1] for row in found.rows] == [row.fits for row in found.rows]


def test_nothing_fits_in_nothing(kept):
    machine = Machine()
    found = ask(kept, machine, budget=Budget(device_bytes=1))
    assert found.best is None
    assert machine.tried == []
    assert not any(row.fits for row in found.rows)


@pytest.mark.parametrize("done", [1, 2])
def test_ctrl_c_leaves_the_best_of_what_was_tried(kept, done):
    found = ask(kept, machine := Machine(interrupt_at=done))
    assert found.stopped == INTERRUPTED and not found.is_stopgap
    assert len(found.trials) == done
    assert len(found.rows) == 6  # micro-batches 1, 2, 4 x two optimisers
    assert found.best is not None and found.best.candidate == min(machine.tried, key=seconds_of)


def test_ctrl_c_in_the_first_trial_leaves_the_start_whatever_was_predicted(kept):
    found = ask(kept, Machine(interrupt_at=0))
    assert found.stopped == INTERRUPTED and found.is_stopgap and found.trials == ()
    assert found.best == found.start == found.rows[0] and found.path == (found.start,)
    assert {row.verdict for row in found.rows[1:]} == {
        "the search was interrupted before a trial told how it compares"
    }
    assert choices(found) == {}  # none of them is known to be the fastest


def test_ctrl_c_after_a_start_that_failed_leaves_the_nearest_and_says_so(kept):
    def run(candidate, **limits):
        if candidate.settings:
            raise KeyboardInterrupt
        return Trial(candidate.key, "timed out", "as told", 1.0)

    found = ask(kept, run)
    assert found.is_stopgap and found.best is not None
    assert found.start.verdict == "timed out when tried: as told"
    assert len(changed_axes(found.start.candidate, found.best.candidate)) == 1
    assert found.path == (found.start, found.best)
    assert found.recommended == found.best.candidate.config


def test_a_signal_while_the_answer_is_made_is_not_forgotten(kept, monkeypatch):
    real = module.plan_loading

    def interrupted(*given, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*given, **options)

    monkeypatch.setattr(module, "plan_loading", interrupted)
    slow_loading(monkeypatch)
    with Stopping() as stopping:
        found = ask(kept, Machine(), stopping=stopping)
    assert found.stopped == INTERRUPTED and not found.is_stopgap
    assert found.best is not None and found.loading_settings


def test_ctrl_c_in_a_verification_leaves_the_answer_without_it(kept):
    machine = Machine()

    def run(candidate, **limits):
        if candidate in machine.tried:  # a search tries nothing twice
            raise KeyboardInterrupt
        return machine(candidate, **limits)

    found = ask(kept, run, verify_rounds=2)
    assert found.stopped == INTERRUPTED and found.verification is None and not found.is_stopgap
    assert found.best is not None and found.best.trial is not None


def interrupt(monkeypatch, part):
    """Have a part of the search be interrupted when it is first begun."""
    place = module if hasattr(module, part) else groundwork
    real, calls = getattr(place, part), []

    def interrupted(*given, **options):
        calls.append(part)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(*given, **options)

    monkeypatch.setattr(place, part, interrupted)


@pytest.mark.parametrize("part", ["measure_loading", "predict_space", "count_work", "Search"])
def test_ctrl_c_before_the_first_trial_leaves_the_start_and_what_is_kept(kept, monkeypatch, part):
    start = ask(kept, Machine()).start.candidate  # so that what is kept tells something
    interrupt(monkeypatch, part)
    machine = Machine()
    found = ask(kept, machine, budget=Budget(device_bytes=2**40), verify_rounds=2)
    assert found.stopped == INTERRUPTED
    assert machine.tried == []
    assert [row.peak_bytes for row in found.rows if row.peak_bytes is not None]
    assert found.best is not None
    assert found.best.candidate == start
    assert found.recommended == start.config
    assert "interrupted" in found.best.verdict
    assert found.best in found.rows


@pytest.mark.parametrize("bound", [None, 2**40])
def test_ctrl_c_before_anything_is_known_leaves_the_start_and_says_so(tmp_path, monkeypatch, bound):
    interrupt(monkeypatch, "predict_space")
    found = ask(tmp_path, Machine(), budget=Budget(device_bytes=bound))
    assert found.stopped == INTERRUPTED
    assert found.best == found.start == found.rows[0]
    assert found.best.peak_bytes is None
    assert "before it was known to fit" in found.best.verdict
    assert found.recommended == found.start.candidate.config


def test_the_memory_of_the_start_is_predicted_first(tmp_path, monkeypatch):
    asked = []

    def interrupted_at_the_second(job):
        asked.extend(job.configs)
        if len(asked) > 2:  # the start with either optimiser is one
            raise KeyboardInterrupt
        return predict_job(job)

    predict = partial(groundwork.predict_space, predict=interrupted_at_the_second, workers=0)
    monkeypatch.setattr(groundwork, "predict_space", predict)
    found = ask(tmp_path, Machine(), budget=Budget(device_bytes=2**40), overrides=["TRAIN.BATCH_SIZE=2"])
    assert asked[0].train.batch_size == 2
    assert found.best == found.start and found.best.fits and found.best.peak_bytes is not None


def test_ctrl_c_never_leaves_a_start_that_is_known_not_to_fit(kept, monkeypatch):
    whole = ask(kept, Machine())
    interrupt(monkeypatch, "count_work")
    found = ask(kept, Machine(), budget=Budget(device_bytes=whole.start.peak_bytes - 1))
    assert not found.start.fits
    assert found.best is not None and found.best.fits
    assert found.best.candidate.choices == {**found.start.candidate.choices, "optimizer": "adamw8bit"}
    assert found.recommended == found.best.candidate.config
    assert found.path == (found.start, found.best) and found.is_stopgap


def test_where_nothing_fits_ctrl_c_leaves_nothing(kept, monkeypatch):
    interrupt(monkeypatch, "count_work")
    assert ask(kept, Machine(), budget=Budget(device_bytes=1)).best is None


def test_a_signal_ends_trials_and_what_comes_after_them_is_done(kept, monkeypatch):
    """The signal that a scheduler sends, in the real handler."""
    machine = Machine()

    def run(candidate, **limits):
        if len(machine.tried) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return machine(candidate, **limits)

    with Stopping() as stopping:
        found = ask(kept, run, stopping=stopping)
    assert stopping.signal_number == signal.SIGTERM
    assert found.stopped == INTERRUPTED and len(found.trials) == 2
    assert found.best is not None and found.best.trial is not None


def test_why_no_memory_could_be_predicted_is_kept(tmp_path, monkeypatch):
    def fail(job):
        raise DeblurkitError("its process was killed")

    monkeypatch.setattr(
        groundwork, "predict_space", partial(groundwork.predict_space, predict=fail, workers=0)
    )
    found = ask(tmp_path, Machine(), budget=Budget(device_bytes=2**40))
    assert found.best is None
    assert "its process was killed" in found.unpredicted
    assert ask(tmp_path, Machine()).best is not None  # nothing is bound: it may be tried


def slow_loading(monkeypatch):
    """Have a clip take seconds of a core on a machine of 20."""
    loading = Loading(9.0, None, clips=3, num_clips=10, storage="png", decoded_bytes=0, packed_bytes=0)
    monkeypatch.setattr(groundwork, "measure_loading", lambda config, **options: loading)
    monkeypatch.setattr(module, "available_cpus", lambda: 20)


def test_workers_are_as_many_as_host_memory_has_room_for(kept, tmp_path, monkeypatch):
    slow_loading(monkeypatch)
    one = ["DATALOADER.TRAIN_WORKERS=1", "DATALOADER.VAL_WORKERS=0"]
    whole = ask(kept, Machine(), overrides=one)
    assert whole.loading_settings["DATALOADER.TRAIN_WORKERS"] == 16
    room = (whole.start.host_bytes + whole.best.host_bytes) // 2
    found = ask(kept, Machine(), overrides=one, budget=Budget(host_bytes=room))
    assert 1 < found.recommended.dataloader.train_workers < 16
    assert found.best.host_bytes <= room < whole.best.host_bytes
    recommended = Candidate({}, found.recommended, {})  # what a prediction of its own says of it
    again = predict_space(
        [recommended],
        device_kind="cpu",
        budget=Budget(),
        store=None,
        workers=0,
        on_progress=lambda done, total: None,
    )
    assert again[recommended.key].host_bytes == found.best.host_bytes


def test_a_failing_trial_is_a_row_and_the_search_goes_on(kept):
    found = ask(kept, Machine(outcome="killed"))
    told = [row.trial for row in found.rows if row.trial is not None and row.trial.outcome == "killed"]
    assert told
    assert found.best is not None
    assert found.best.candidate.settings == {}  # the one that can run


def test_trials_are_kept_for_the_next_search(kept, tmp_path):
    machine = Machine()
    ask(tmp_path, machine, fresh=False)
    before = len(machine.tried)
    found = ask(tmp_path, machine, fresh=False)
    assert before > 0
    assert len(machine.tried) == before
    assert all(trial.is_cached for trial in found.trials)
    assert any("from an earlier search" in note for note in found.notes)
    ask(tmp_path, machine, fresh=True)
    assert len(machine.tried) > before
    assert (tmp_path / "trials.jsonl").stat().st_mode & 0o077 == 0


def test_a_verification_runs_both_in_turns(kept):
    machine = Machine()
    found = ask(kept, machine, verify_rounds=2)
    assert found.verification is not None
    assert found.verification.keeps
    true = seconds_of(found.start.candidate) / seconds_of(found.best.candidate)
    assert found.verification.measured == pytest.approx(true, rel=1e-6)
    low, gain, high = (
        found.verification.promised[1],
        found.verification.promised[0],
        found.verification.promised[2],
    )
    assert low < gain < high


def test_a_start_that_cannot_run_is_not_verified(kept):
    needs = sorted(row.peak_bytes for row in ask(kept, Machine()).rows)
    found = ask(kept, Machine(), budget=Budget(device_bytes=needs[0]), verify_rounds=2)
    assert found.verification is None


def test_a_trial_of_the_verification_that_fails_is_told(kept):
    class Failing(Machine):
        def __call__(self, candidate, **limits):
            if candidate in self.tried:  # a second time: of the verification
                return Trial(candidate.key, "killed", "by SIGKILL", 1.0)
            return super().__call__(candidate, **limits)

    found = ask(kept, Failing(), verify_rounds=2)
    assert found.verification is None
    assert found.best is not None
    assert any("SIGKILL" in note for note in found.notes)
    assert "SIGKILL" in found.verification_error


def test_a_card_that_is_not_here_is_predicted_and_not_tried(kept):
    machine = Machine()
    config = load_config("quickstart", None, ["DATA.AUTO_SYNTHETIC=false"], warn=lambda text: None)
    question = Question(config, Budget(), card="a6000")
    found = recommend(question, message=unheard, run=machine, store=kept)
    assert machine.tried == []
    assert found.is_prediction
    assert "A6000" in found.hardware
    assert found.best is not None
    assert found.best.estimate is not None
    assert not found.best.estimate.is_measured
    assert found.best.estimate.low < found.best.estimate.seconds < found.best.estimate.high
    assert any("no step was taken" in note for note in found.notes)


def test_a_trial_takes_no_longer_than_is_left_of_all_the_time(kept):
    """Trials of the formula say that they took 1 s each."""
    machine = Machine()
    found = ask(kept, machine, budget=Budget(seconds=2.5, trial_seconds=2.0))
    assert machine.limits == [2.0, 1.5, 0.5]
    assert found.stopped.startswith("the time for trials is spent")
    unbound = Machine()
    ask(kept, unbound, budget=Budget(trial_seconds=7.0), verify_rounds=2)
    assert set(unbound.limits) == {7.0}


def test_a_verification_is_no_part_of_the_time_for_trials(kept):
    machine = Machine()
    ask(kept, machine, budget=Budget(seconds=1.5, trial_seconds=9.0), verify_rounds=2)
    assert machine.limits == [1.5, 0.5, *[9.0] * 4]


def test_where_every_trial_fails_nothing_is_recommended(kept):
    class Broken(Machine):
        def __call__(self, candidate, **limits):
            self.tried.append(candidate)
            return Trial(candidate.key, "failed", "no kernel", 1.0)

    found = ask(kept, Broken(), budget=Budget(trials=2))
    assert (found.best, found.recommended, len(found.trials)) == (None, None, 2)


def test_the_clips_of_an_epoch_are_counted_for_a_card_that_is_not_here(tmp_path, tiny_config):
    question = Question(tiny_config("DATA.CLIP_LEN=3", "TRAIN.DEVICE=auto"), Budget(), card="a6000")
    found = recommend(question, message=unheard, run=Machine(), store=tmp_path)
    assert found.samples_per_epoch == 6  # two training sequences of 5 frames


def test_numbers_of_gpus_that_do_not_divide_the_clips_are_told(tmp_path, tiny_config):
    config = tiny_config("TRAIN.BATCH_SIZE=4", "TRAIN.DEVICE=auto")
    question = Question(config, Budget(), card="a6000", devices=3)
    found = recommend(question, message=unheard, run=Machine(), store=tmp_path)
    assert {row.candidate.devices for row in found.rows} == {1, 2}
    assert any(note.startswith("--devices: 3 GPUs") for note in found.notes)


def test_a_start_that_is_recommended_is_said_not_to_be_verified(kept):
    """Of one clip a step there is one way to cut it, and 8-bit states are slower by the formula."""
    config = load_config("quickstart", None, [*NO_DATA, "TRAIN.BATCH_SIZE=1"], warn=lambda text: None)
    question = Question(config, Budget(), verify_rounds=2, fresh=True)
    found = recommend(question, message=unheard, run=Machine(), place=PLACE, store=kept)
    assert found.best is not None
    assert found.best.candidate.settings == {}
    assert found.verification is None
    assert module.NOTHING_TO_VERIFY in found.notes


def test_what_cannot_be_measured_here_cannot_be_verified(kept):
    config = load_config("quickstart", None, NO_DATA, warn=lambda text: None)
    question = Question(config, Budget(), card="a6000", verify_rounds=2)
    with pytest.raises(UsageError, match="--verify: no step can be taken on NVIDIA RTX A6000 here"):
        recommend(question, message=unheard, store=kept)
