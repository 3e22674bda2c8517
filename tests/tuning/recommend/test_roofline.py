"""What a step should take by its work: sums worked out by hand."""

import math

import numpy as np
import pytest

from deblurkit.config.changed import changed
from deblurkit.config.load import load_config
from deblurkit.tuning.recommend.cards import Prior
from deblurkit.tuning.recommend.records import Candidate, Work
from deblurkit.tuning.recommend.roofline import RATES, Roofline, product_type

WORK = Work(4e9, 8e9, 1e9, 3e9, 1000, 2000, weights=1_000_000)
PRIOR = Prior({"float32": 1e10, "bf16": 4e10, "fp16": 4e10}, 1e10, 1e-4, 1e9, 0.5, "a test")


@pytest.fixture(scope="module")
def start():
    return load_config("quickstart_vrt", None, [], warn=lambda text: None)


@pytest.fixture(scope="module")
def bf16(start):
    return changed(start, {"TRAIN.AMP_ENABLED": True, "TRAIN.AMP_DTYPE": "bf16", "TRAIN.AMP_OPT_LEVEL": "O1"})


@pytest.fixture(scope="module")
def roofline(start, bf16):
    candidates = [Candidate({}, start, {}), Candidate({"TRAIN.AMP_ENABLED": True}, bf16, {})]
    return Roofline(candidates, [WORK, WORK], PRIOR)


def test_a_pass_takes_its_operations_bytes_and_calls_one_after_the_other(roofline):
    forward, _ = roofline.linear("forward", np.zeros(len(RATES)))
    backward, _ = roofline.linear("backward", np.zeros(len(RATES)))
    assert np.exp(forward) == pytest.approx([4e9 / 1e10 + 1e9 / 1e10 + 0.1, 4e9 / 4e10 + 0.1 + 0.1])
    assert np.exp(backward) == pytest.approx([0.8 + 0.3 + 0.2, 0.2 + 0.3 + 0.2])


def test_a_rate_that_is_twice_as_slow_doubles_its_part_alone(roofline):
    rates = np.zeros(len(RATES))
    rates[RATES.index("bytes")] = math.log(2)
    assert np.exp(roofline.linear("forward", rates)[0][0]) == pytest.approx(0.4 + 0.2 + 0.1)
    assert np.exp(roofline.exact("forward", np.stack([0 * rates, rates], axis=1))[0]) == pytest.approx(
        [0.6, 0.7]
    )


@pytest.mark.parametrize("phase", ["forward", "backward", "optimizer", "rest"])
def test_slopes_are_those_of_finite_differences(roofline, phase):
    rates = np.linspace(-0.5, 0.7, len(RATES))
    means, slopes = roofline.linear(phase, rates)
    for number in range(len(RATES)):
        moved = rates.copy()
        moved[number] += 1e-6
        numeric = (roofline.linear(phase, moved)[0] - means) / 1e-6
        assert slopes[:, number] == pytest.approx(numeric, abs=1e-5)


def test_the_type_of_products_is_that_of_autocast(start, bf16):
    off = changed(bf16, {"TRAIN.AMP_OPT_LEVEL": "O0"})
    assert [product_type(each.train) for each in (start, bf16, off)] == ["float32", "bf16", "float32"]
