from dataclasses import replace
from pathlib import Path

import pytest

from deblurkit.config.load import load_config
from deblurkit.tuning.recommend.cards import prior_for_cpu
from deblurkit.tuning.recommend.notes import notes_on
from deblurkit.tuning.recommend.place import Place
from deblurkit.tuning.recommend.records import Trial
from deblurkit.tuning.run_memory import DataSize, size_of_data

HERE = Place("cpu", "a card", prior_for_cpu(2), (), True, True, True, None, None)
TRIAL = Trial("k", "measured", "", 1.0)


@pytest.fixture
def notes():
    """Return a function that gives the notes on a search with 4 x 2 clips a step."""
    keys = ["TRAIN.BATCH_SIZE=4", "TRAIN.GRADIENT_ACCUMULATION_STEPS=2"]
    config = load_config("quickstart", None, keys, warn=lambda text: None)

    def make(place=HERE, *, data=DataSize((8, 8), 5), numbers=(1,), trials=(TRIAL,)):  # noqa: B008
        return list(notes_on(config, place, data=data, numbers=numbers, trials=trials))

    return make


def test_what_is_as_usual_needs_no_note(notes):
    assert notes(numbers=(1, 2, 4, 8)) == []


def test_numbers_of_gpus_that_do_not_divide_the_clips_are_told(notes):
    assert notes(numbers=(1, 2, 4, 6, 7)) == [
        "--devices: 6, 7 GPUs do not divide the 8 clips of a step: left out"
    ]


def test_a_card_that_is_not_here_data_that_is_not_there_and_kept_trials_are_told(notes):
    section = load_config("quickstart", None, ["DATA.ROOT=/nowhere"], warn=lambda text: None).data
    assert section.root == Path("/nowhere")
    data, card, kept = notes(
        replace(HERE, can_measure=False),
        data=size_of_data(section),
        trials=(TRIAL, replace(TRIAL, is_cached=True)),
    )
    assert "/nowhere is not there" in data
    assert card == "no step was taken on a card: speeds are from a guess at a processor core"
    assert kept.startswith("1 of 2 trials are from an earlier search")
