"""What a trial is worth: normal draws with values in closed form."""

import math

import numpy as np
import pytest

from deblurkit.tuning.recommend.next_trial import chance_of_faster, gains


def draws_of(means, covariance, count=200_000):
    return np.random.default_rng(0).multivariate_normal(means, covariance, count)


def test_expected_improvement_is_that_of_two_normals():
    logs = draws_of([0.0, 0.1], [[0.0, 0], [0, 0.04]])
    worth = gains(logs, best=0, noise=0.03, may_go_on=False)
    z = -0.1 / 0.2  # E max(0, -x) of x ~ N(0.1, 0.2²)
    density, below = math.exp(-z * z / 2) / math.sqrt(2 * math.pi), 0.5 * math.erfc(-z / math.sqrt(2))
    assert worth[0] == pytest.approx(0)
    assert worth[1] == pytest.approx(-0.1 * below + 0.2 * density, rel=0.02)


def test_a_trial_that_tells_of_others_is_worth_more_when_more_may_follow():
    covariance = np.diag([0.0, 0.09, 0.09, 0.09])
    covariance[1, 2] = covariance[2, 1] = 0.085  # 1 and 2 are alike, 3 is alone
    logs = draws_of([0.0, 0.05, 0.05, 0.05], covariance)
    last = gains(logs, best=0, noise=0.03, may_go_on=False)
    more = gains(logs, best=0, noise=0.03, may_go_on=True)
    assert (more >= last).all()
    assert last[1] == pytest.approx(last[3], rel=0.05)


def test_knowledge_of_one_unsure_candidate_beside_a_sure_one():
    logs = draws_of([0.0, 0.0], [[0.0, 0], [0, 0.04]])
    without, with_more = (gains(logs, best=0, noise=0.2, may_go_on=more)[1] for more in (False, True))
    told = 0.04 / math.sqrt(0.04 + 0.04)  # how far the mean moves in a trial with noise 0.2
    assert with_more - without == pytest.approx(told / math.sqrt(2 * math.pi), rel=0.1)


def test_without_any_measured_the_one_likely_fastest_is_worth_most():
    logs = draws_of([0.0, -0.5, 0.5], np.diag([0.01, 0.01, 0.01]), 5000)
    assert gains(logs, best=None, noise=0.03, may_go_on=False).argmax() == 1


def test_the_chance_of_a_faster_one():
    logs = draws_of([0.0, 0.0], [[0.0, 0], [0, 0.01]])
    below = 0.5 * math.erfc(math.log(1.02) / 0.1 / math.sqrt(2))
    assert chance_of_faster(logs, 0, by=0.02) == pytest.approx(below, abs=0.005)
