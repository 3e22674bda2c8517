from dataclasses import replace

import pytest

from deblurkit.config.schema import Config, as_values
from deblurkit.tuning.recommend.promised import promise_of, promised_gain, promised_values


def test_the_promise_is_what_the_best_was_said_to_give(recommendation):
    found = recommendation()
    assert promise_of(found, found.best) == {
        "SAMPLES_PER_SECOND": 5.0,
        "LOW": 4.0,
        "HIGH": 6.25,
        "GAIN": 2.0,
        "PEAK_BYTES": 24 * 2**30,
        "HARDWARE": "2 x CPU <b>é | x</b>",
    }


def test_it_makes_a_valid_configuration_with_the_recommended_values(recommendation):
    found = recommendation()
    config = Config.model_validate(promised_values(found))
    assert (config.train.batch_size, config.train.optim.type) == (3, "adamw8bit")
    assert {**as_values(config), "PROMISE": None} == {
        **as_values(found.best.candidate.config),
        "PROMISE": None,
    }


def test_what_is_not_known_is_not_promised(recommendation):
    found = recommendation()
    promise = promise_of(found, replace(found.best, estimate=None, peak_bytes=None))
    assert [key for key, value in promise.items() if value is not None] == ["HARDWARE"]
    untold = replace(found, start=replace(found.start, estimate=None))
    assert promise_of(untold, found.best)["GAIN"] is None
    assert promised_values(recommendation(best=None)) is None


def test_a_gain_is_promised_with_the_interval_of_two_figures_that_are_independent(recommendation):
    found = recommendation()
    gain, low, high = promised_gain(found.start, found.best)
    assert gain == 2.0  # 2.4 s / 1.2 s, each from 0.8 to 1.25 of that: sqrt(2) x log(1.25) together
    assert high / gain == pytest.approx(gain / low) == pytest.approx(1.25**2**0.5)
    assert promised_gain(replace(found.start, estimate=None), found.best) is None
