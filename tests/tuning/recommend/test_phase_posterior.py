"""The joint distribution of phases: where its draws lie after trials."""

import numpy as np
import pytest

from deblurkit.tuning.recommend.phase_posterior import PhasePosterior
from deblurkit.tuning.recommend.roofline import PHASES
from deblurkit.tuning.recommend.trial_figures import Figures

FORWARD = PHASES.index("forward")


@pytest.fixture
def posterior(space, work, prior):
    return PhasePosterior(space, [work[each.key] for each in space], prior)


def figures(logs, noise=0.01):
    return Figures(np.array(logs, dtype=float), np.full(len(PHASES), noise), noise)


def test_before_any_trial_draws_lie_around_what_the_work_should_take(posterior):
    draws = posterior.draw(4000, np.random.default_rng(0))
    expected = posterior.expected()
    for number in range(len(PHASES)):
        middle = np.exp(np.median(draws[number][0]))
        assert middle == pytest.approx(
            expected[0, number], rel=0.35
        )  # a sum of skewed parts is above its own


def test_after_a_trial_draws_of_the_same_candidate_lie_where_it_did(posterior):
    seen = [0.5, 1.2, -3.0, -4.0]
    posterior.see([(5, figures(seen))])
    draws = posterior.draw(2000, np.random.default_rng(0))
    for number in range(len(PHASES)):
        assert draws[number][5].mean() == pytest.approx(seen[number], abs=0.03)
        assert draws[number][5].std() < 0.05


def test_two_quiet_trials_of_one_candidate_meet_in_the_middle(posterior):
    posterior.see([(5, figures([0.50, 1, -3, -4])), (5, figures([0.54, 1, -3, -4]))])
    draws = posterior.draw(2000, np.random.default_rng(0))
    assert draws[FORWARD][5].mean() == pytest.approx(0.52, abs=0.01)


def test_what_was_seen_before_is_forgotten(posterior):
    before = posterior.draw(50, np.random.default_rng(0))
    posterior.see([(5, figures([0.5, 1, -3, -4]))])
    posterior.see([])
    after = posterior.draw(50, np.random.default_rng(0))
    assert all((one == other).all() for one, other in zip(before, after, strict=True))


def test_trials_further_apart_than_they_show_by_themselves_are_louder(posterior, space):
    rng = np.random.default_rng(2)
    logs = np.log(posterior.expected())
    places = list(range(0, 48, 6)) * 2
    posterior.see([(at, figures(logs[at], 0.01)) for at in places])
    quiet = posterior.louder
    posterior.see([(at, figures(logs[at] + rng.normal(0, 0.03), 0.01)) for at in places])
    assert posterior.louder > quiet >= 1


def test_an_interrupt_while_learning_leaves_what_was_known(posterior, monkeypatch):
    posterior.see([(5, figures([0.5, 1, -3, -4]))])
    before, louder = posterior.draw(50, np.random.default_rng(0)), posterior.louder
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(posterior, "_fitted", interrupted)
        posterior.see([(5, figures([0.5, 1, -3, -4])), (9, figures([0.7, 1, -3, -4]))])
    after = posterior.draw(50, np.random.default_rng(0))
    assert all((one == other).all() for one, other in zip(before, after, strict=True))
    assert posterior.louder == louder


def interrupted(*given):
    raise KeyboardInterrupt
