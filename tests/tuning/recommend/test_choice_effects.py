"""Features of choices: their covariance is that of the process that they stand for."""

import math

import numpy as np
import pytest

from deblurkit.tuning.recommend.choice_effects import ChoiceEffects, class_of
from deblurkit.tuning.recommend.records import Candidate


@pytest.fixture
def pick(space):
    """Return a function that gives the place of a candidate by its choices."""

    def place(batch, recompute="none", optimizer="adamw"):
        wanted = {"batch": f"{batch} x {8 // batch}", "recompute": recompute, "optimizer": optimizer}
        return next(at for at, each in enumerate(space) if each.choices == wanted)

    return place


def covariance(effects, phase, one, other, *, of=None):
    left = effects.design(phase, [one]) * effects.spreads**2
    return float((left @ effects.design(of or phase, [other]).T).item())


def test_the_optimizer_does_not_change_the_passes_nor_these_the_optimizer(space, pick):
    effects = ChoiceEffects(space, {})
    passes = [effects.design("forward", [pick(2, "FFN", name)]) for name in ("adamw", "adamw8bit")]
    steps = [effects.design("optimizer", [pick(batch, "FFN")]) for batch in (1, 8)]
    assert (passes[0] == passes[1]).all()
    assert (steps[0] == steps[1]).all()
    assert covariance(effects, "forward", 0, 0, of="optimizer") == 0


def test_near_batches_are_more_alike_than_far_ones(space, pick):
    effects = ChoiceEffects(space, {})
    alike = [covariance(effects, "backward", pick(1), pick(batch)) for batch in (1, 2, 4, 8)]
    assert alike == sorted(alike, reverse=True)
    assert alike[1] - alike[3] > 0.3 * alike[0]


def test_forward_and_backward_passes_have_half_of_it_in_common(space, pick):
    effects = ChoiceEffects(space, {})
    one = pick(4, "attention")
    own = covariance(effects, "forward", one, one)
    assert covariance(effects, "forward", one, one, of="backward") == pytest.approx(own / 2)


def test_a_wide_axis_is_wide(space, pick):
    narrow, wide = ChoiceEffects(space, {}), ChoiceEffects(space, {"recompute": 1.0})
    one, other = pick(4, "attention"), pick(4, "FFN")

    def apart(effects):
        both = covariance(effects, "forward", one, one) + covariance(effects, "forward", other, other)
        return math.sqrt(both - 2 * covariance(effects, "forward", one, other))

    assert apart(narrow) < 0.2
    assert apart(wide) == pytest.approx(math.sqrt(2), rel=0.02)


def test_applied_weights_are_the_design_times_them(space):
    effects = ChoiceEffects(space, {})
    weights = np.random.default_rng(0).standard_normal((len(effects.spreads), 3))
    for phase in ("forward", "backward", "optimizer", "rest"):
        expected = effects.design(phase, range(len(space))) @ weights
        assert effects.apply(phase, weights) == pytest.approx(expected)


def test_a_class_has_the_same_micro_step_whatever_the_devices(space):
    one = space[0]
    two = Candidate(one.settings, one.config, {**one.choices, "batch": "1 x 4", "devices": "2"}, devices=2)
    assert class_of(one) == class_of(two)
    assert len({class_of(each) for each in space}) == len(space)
