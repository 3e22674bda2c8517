"""What a trial says of its phases, worked out by hand."""

import math

import numpy as np
import pytest

from deblurkit.tuning.recommend.records import Trial
from deblurkit.tuning.recommend.roofline import PHASES
from deblurkit.tuning.recommend.trial_figures import (
    BETWEEN,
    between_trials,
    figures_of,
    measured_estimate,
    noise_of,
    phase_seconds,
)

SHARES = {"forward": 0.3, "backward": 0.6, "optimizer": 0.05, "rest": 0.05}


def trial_of(steps, phases=None):
    return Trial("key", "measured", "", 5.0, tuple(steps), phases)


def test_the_loss_is_part_of_the_forward_pass_and_what_no_phase_has_is_the_rest():
    trial = trial_of([1.0], {"forward": 0.3, "loss": 0.02, "backward": 0.5, "optimizer": 0.1, "data": 0.05})
    expected = {"forward": 0.32, "backward": 0.5, "optimizer": 0.1, "rest": 0.08}
    assert phase_seconds(trial) == pytest.approx(expected)


def test_passes_are_of_a_micro_step_and_the_optimizer_of_a_step(space):
    candidate = next(each for each in space if each.accumulation == 4)
    trial = trial_of([1.0], {"forward": 0.4, "backward": 0.44, "optimizer": 0.08})
    found = dict(zip(PHASES, np.exp(figures_of(trial, candidate, SHARES).logs), strict=True))
    assert found == pytest.approx({"forward": 0.1, "backward": 0.11, "optimizer": 0.08, "rest": 0.02})


def test_a_trial_without_phases_is_shared_out(space):
    candidate = next(each for each in space if each.accumulation == 1)
    found = np.exp(figures_of(trial_of([2.0]), candidate, SHARES).logs)
    assert found == pytest.approx([2 * SHARES[phase] for phase in PHASES])


def test_a_small_phase_is_less_sure_than_a_large_one(space):
    trial = trial_of([1.0] * 4, {"forward": 0.4, "backward": 0.58, "optimizer": 0.01})
    noise = figures_of(trial, space[0], SHARES).own_noise
    assert noise[PHASES.index("optimizer")] == pytest.approx(0.5)  # 0.005 of a step by 0.01
    assert noise[PHASES.index("backward")] < 0.01


def test_another_process_differs_by_three_percent_at_least():
    assert between_trials(trial_of([1.0] * 8)) == BETWEEN == 0.03
    assert between_trials(trial_of([1.0, 1.2, 0.9, 1.1, 1.3, 0.8])) > 0.06


def test_an_interval_holds_nine_of_ten_later_medians():
    rng = np.random.default_rng(5)
    inside = []
    for _ in range(4000):
        first, later = np.exp(rng.normal(0, 0.03, 2) + rng.normal(0, 0.01, 2))
        estimate = measured_estimate([trial_of(first * np.exp(rng.normal(0, 0.02, 8)))])
        inside.append(estimate.low <= later <= estimate.high)
    assert 0.88 < np.mean(inside) < 0.96


def test_two_trials_say_more_than_one():
    one = measured_estimate([trial_of([1.0] * 8)])
    two = measured_estimate([trial_of([1.0] * 8), trial_of([1.1] * 8)])
    assert two.seconds == pytest.approx(math.sqrt(1.1))
    assert math.log(two.high / two.low) < math.log(one.high / one.low)
    assert (one.low, one.high) == pytest.approx(
        [math.exp(-1.645 * 0.03 * 2**0.5), math.exp(0.0698)], abs=1e-4
    )


def test_louder_trials_are_further_apart():
    trial = trial_of([1.0] * 8)
    assert noise_of(trial, louder=2) == pytest.approx(2 * noise_of(trial))
