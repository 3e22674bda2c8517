from dataclasses import replace

from deblurkit.config.changed import changed
from deblurkit.tuning.recommend.words import (
    change_words,
    choice_words,
    gain_arithmetic,
    name_of,
    reasons,
    recommended_config,
    recommended_settings,
)


def test_a_candidate_is_named_by_what_it_chooses_otherwise(recommendation):
    found = recommendation()
    start, best = found.start.candidate, found.best.candidate
    assert name_of(start, start) == "start"
    assert name_of(start, best) == "batch 3 x 2; optimizer adamw8bit"
    assert choice_words(best) == "batch 3 x 2; optimizer adamw8bit; network as it is"
    assert choice_words(replace(start, choices={})) == "start"


def test_without_axes_the_settings_name_it(recommendation):
    start = recommendation().start.candidate
    config = changed(start.config, {"DATALOADER.TRAIN_WORKERS": 3})
    other = replace(start, config=config, settings={"DATALOADER.TRAIN_WORKERS": 3})
    assert change_words(start, other) == "DATALOADER.TRAIN_WORKERS=3"


def test_each_changed_key_says_what_it_was_and_what_the_change_brings(recommendation):
    found = recommendation()
    loading = {"DATALOADER.TRAIN_WORKERS": 3}
    config = changed(found.best.candidate.config, {**loading, "LOG.KEEP_CHECKPOINTS": 5})
    found = replace(found, recommended=config, loading_settings=loading)
    assert recommended_config(found) is config
    assert reasons(found) == {
        "TRAIN.BATCH_SIZE": "was 1; batch 3 x 2: 5.00 / 3.00 = 1.67 x as fast",
        "TRAIN.GRADIENT_ACCUMULATION_STEPS": "was 6; batch 3 x 2: 5.00 / 3.00 = 1.67 x as fast",
        "TRAIN.OPTIM.TYPE": "was adamw; optimizer adamw8bit: 3.00 / 2.50 = 1.20 x as fast",
        "DATALOADER.TRAIN_WORKERS": "was 1; for loading",
        "LOG.KEEP_CHECKPOINTS": "was 2; recommended",
    }
    assert set(recommended_settings(found)) == {
        *("TRAIN.BATCH_SIZE=3", "TRAIN.GRADIENT_ACCUMULATION_STEPS=2", "TRAIN.OPTIM.TYPE=adamw8bit"),
        *("DATALOADER.TRAIN_WORKERS=3", "LOG.KEEP_CHECKPOINTS=5"),
    }


def test_where_nothing_fits_nothing_is_recommended(recommendation):
    found = recommendation(best=None)
    assert (recommended_config(found), reasons(found), recommended_settings(found)) == (None, {}, ())


def test_a_gain_is_the_quotient_of_the_rates_that_are_shown():
    assert gain_arithmetic(6.5, 4.1) == "6.50 / 4.10 = 1.59 x"
