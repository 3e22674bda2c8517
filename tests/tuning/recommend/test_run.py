"""A whole search with trials from a formula: what it answers, keeps, and leaves behind when it is stopped."""

import pytest

from deblurkit.config.load import load_config
from deblurkit.tuning.recommend import run as module
from deblurkit.tuning.recommend.cards import prior_for_cpu
from deblurkit.tuning.recommend.place import Place
from deblurkit.tuning.recommend.records import Budget, Trial
from deblurkit.tuning.recommend.run import INTERRUPTED, Question, recommend


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
SMALL_PARTS = ["TRAIN.BATCH_SIZE=1", "TRAIN.GRADIENT_ACCUMULATION_STEPS=4"]  # the slowest by the formula


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder in which the predictions of all tests of this file are kept: they are made once."""
    return tmp_path_factory.mktemp("kept")


def ask(kept, machine, *, budget=None, **asked):
    config = load_config(
        "quickstart",
        None,
        [*SMALL_PARTS, "DATA.AUTO_SYNTHETIC=false", "DATA.ROOT=/nowhere"],
        warn=lambda text: None,
    )
    question = Question(config, budget or Budget(), **{"fresh": True, **asked})
    return recommend(question, message=lambda text: None, run=machine, place=PLACE, store=kept)


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


@pytest.mark.parametrize("done", [0, 1, 2])
def test_ctrl_c_leaves_what_is_known(kept, done):
    found = ask(kept, Machine(interrupt_at=done))
    assert found.stopped == INTERRUPTED
    assert len(found.trials) == done
    assert len(found.rows) == 6  # micro-batches 1, 2, 4 x two optimisers
    assert found.best is not None


@pytest.mark.parametrize("part", ["predict_space", "count_work"])
def test_ctrl_c_before_the_first_trial_still_gives_rows(kept, monkeypatch, part):
    ask(kept, Machine())  # so that what is kept tells something
    real, calls = getattr(module, part), []

    def interrupted(*given, **options):
        calls.append(part)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(*given, **options)

    monkeypatch.setattr(module, part, interrupted)
    machine = Machine()
    found = ask(kept, machine)
    assert found.stopped == INTERRUPTED
    assert machine.tried == []
    assert [row.peak_bytes for row in found.rows if row.peak_bytes is not None]


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


def test_a_card_that_is_not_here_is_predicted_and_not_tried(kept):
    machine = Machine()
    config = load_config("quickstart", None, ["DATA.AUTO_SYNTHETIC=false"], warn=lambda text: None)
    question = Question(config, Budget(), card="a6000")
    found = recommend(question, message=lambda text: None, run=machine, store=kept)
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
