"""Step times told from a few trials, on simulated machines whose true times are known."""

import math

import numpy as np
import pytest

from deblurkit.tuning.recommend.phase_posterior import PhasePosterior
from deblurkit.tuning.recommend.records import Candidate, Trial
from deblurkit.tuning.recommend.step_model import StepModel


def told(space, work, prior, machine, *, trials, seed):
    """Return a model that has seen some trials of a machine, and the places of those."""
    places = np.random.default_rng(seed).permutation(len(space))[:trials]
    model = StepModel(space, work, prior=prior)
    model.fit([machine.run(space[place]) for place in places])
    return model, set(places)


def judged(space, work, prior, machine_of, *, trials, seeds):
    """Return which later measurements of untried candidates are inside, and how far they are off."""
    inside, errors = [], []
    for seed in seeds:
        machine = machine_of(seed)
        model, tried = told(space, work, prior, machine, trials=trials, seed=seed)
        for place, candidate in enumerate(space):
            if place in tried:
                continue
            estimate = model.estimate(candidate)
            later = float(np.median(machine.run(candidate).step_seconds))
            inside.append(estimate.low <= later <= estimate.high)
            errors.append(abs(estimate.seconds / later - 1))
    return float(np.mean(inside)), float(np.median(errors))


def test_six_trials_tell_the_others_within_a_tenth(space, work, prior, machine_of):
    inside, error = judged(space, work, prior, machine_of, trials=6, seeds=range(300, 306))
    assert inside >= 0.8  # six machines; the slow test below asks for 0.9 of sixty
    assert error < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("trials", [2, 5, 10])
def test_nine_of_ten_later_measurements_are_inside_their_intervals(space, work, prior, machine_of, trials):
    inside, error = judged(space, work, prior, machine_of, trials=trials, seeds=range(200, 260))
    assert inside >= 0.88  # 60 machines: the standard error of a share over them is about 0.015
    assert error < 0.1


def test_more_trials_narrow_the_intervals(space, work, prior, machine_of):
    widths = []
    for trials in (0, 1, 8):
        model, tried = told(space, work, prior, machine_of(1), trials=trials, seed=3)
        untried = [model.estimate(each) for place, each in enumerate(space) if place not in tried]
        widths.append(np.median([math.log(each.high / each.low) for each in untried]))
    assert widths[0] > 2 * widths[1] > 3 * widths[2]


def test_a_candidate_that_was_tried_keeps_its_own_narrower_interval(space, work, prior, machine_of):
    machine = machine_of(4, noise=0.01)
    trial = machine.run(space[7])
    model = StepModel(space, work, prior=prior)
    model.fit([trial])
    own, other = model.estimate(space[7]), model.estimate(space[30])
    assert (own.is_measured, other.is_measured) == (True, False)
    assert own.seconds == pytest.approx(np.median(trial.step_seconds))
    assert 0.05 < math.log(own.high / own.low) < math.log(other.high / other.low)


def test_the_optimizer_is_learnt_from_a_trial_with_any_batch(space, work, prior, machine_of):
    machine = machine_of(11, noise=0.005)
    model = StepModel(space, work, prior=prior)
    slow = {key: {**phases, "optimizer": 5.0} for key, phases in machine.phases.items()}
    eight = {each.key for each in space if each.choices["optimizer"] == "adamw8bit"}
    machine.phases |= {key: slow[key] for key in eight}
    machine.seconds = {key: sum(phases.values()) for key, phases in machine.phases.items()}
    one = next(each for each in space if each.key in eight and each.batch_size == 1)
    model.fit([machine.run(one)])
    other = next(each for each in space if each.key in eight and each.batch_size == 8)
    plain = next(each for each in space if each.key not in eight and each.batch_size == 8)
    assert model.estimate(other).phases["optimizer"] == pytest.approx(5, rel=0.1)
    assert model.estimate(plain).phases["optimizer"] < 4


def test_phases_add_up_to_the_step(space, work, prior, machine_of):
    model, _ = told(space, work, prior, machine_of(2), trials=3, seed=1)
    for candidate in space[::7]:
        estimate = model.estimate(candidate)
        assert sum(estimate.phases.values()) == pytest.approx(estimate.seconds, rel=0.05)
        assert estimate.low < estimate.seconds < estimate.high


def test_draws_are_joint_and_their_medians_are_the_estimates(space, work, prior, machine_of):
    model, tried = told(space, work, prior, machine_of(2), trials=2, seed=1)
    untried = [each for place, each in enumerate(space) if place not in tried][:6]
    draws = model.samples(untried, 2000, 1)
    assert draws.shape == (2000, 6)
    estimates = [model.estimate(each).seconds for each in untried]
    assert np.median(draws, axis=0) == pytest.approx(estimates, rel=0.05)
    assert np.corrcoef(np.log(draws), rowvar=False)[0, 1] > 0.3  # both hang on the machine's rates
    assert (model.samples(untried, 50, 1) == model.samples(untried, 50, 1)).all()


def test_trials_that_failed_teach_no_speed_and_memory_that_ran_out_is_noted(space, work, prior):
    model = StepModel(space, work, prior=prior)
    before = model.estimate(space[0])
    model.fit([Trial(space[3].key, "out of memory", "", 9.0), Trial(space[4].key, "timed out", "", 9.0)])
    assert model.estimate(space[0]) == before
    assert model.observed_out_of_memory == {space[3].key}


def test_without_work_nothing_is_known(space, work, prior):
    known = {space[0].key: work[space[0].key]}
    model = StepModel(space, known, prior=prior)
    assert (model.knows(space[0]), model.knows(space[1])) == (True, False)
    with pytest.raises(KeyError):
        model.estimate(space[1])
    with pytest.raises(KeyError):
        StepModel(space, {}, prior=prior).samples(space[:1], 5, 0)


def test_two_devices_take_half_the_micro_steps_and_sum_their_gradients(space, work, prior, machine_of):
    one = next(each for each in space if each.batch_size == 1)
    settings = {**one.settings, "TRAIN.GRADIENT_ACCUMULATION_STEPS": 4}
    config = one.config.model_copy(
        update={"train": one.config.train.model_copy(update={"gradient_accumulation_steps": 4})}
    )
    two = Candidate(settings, config, {**one.choices, "batch": "1 x 4"}, devices=2)
    all_work = {**work, two.key: work[one.key]}
    model = StepModel([*space, two], all_work, prior=prior)
    machine = machine_of(3, noise=0.002)
    model.fit([machine.run(one)])
    estimate = model.estimate(two)
    link = 2 * 0.5 * 4 * work[one.key].weights / prior.link_bytes_per_second  # ring: 2 (d - 1) / d of all
    phases = machine.phases[one.key]
    expected = (phases["forward"] + phases["backward"]) / 2 + phases["optimizer"] + link
    assert estimate.seconds == pytest.approx(expected, rel=0.05)
    assert estimate.phases["all_reduce"] == pytest.approx(link, rel=0.3)
    assert not estimate.is_measured


def test_an_interrupt_while_learning_leaves_what_was_known(space, work, prior, machine_of, monkeypatch):
    machine = machine_of(3)
    model, _ = told(space, work, prior, machine, trials=2, seed=1)
    before = [(model.estimate(each), model.believed(each)) for each in space]

    def interrupted(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PhasePosterior, "see", interrupted)
        model.fit([machine.run(each) for each in space[:5]])
    assert [(model.estimate(each), model.believed(each)) for each in space] == before
