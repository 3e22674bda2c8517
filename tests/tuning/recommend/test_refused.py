"""What ran out of memory rules out, by bytes written down here."""

import pytest

from deblurkit.config.load import load_config
from deblurkit.tuning.recommend.records import Candidate
from deblurkit.tuning.recommend.refused import Refused, too_many


@pytest.fixture
def candidate():
    def make(*, compiled=False):
        overrides = [f"TRAIN.COMPILE_MODEL={str(compiled).lower()}"]
        return Candidate({}, load_config("quickstart", None, overrides, warn=lambda text: None), {})

    return make


def test_the_least_of_each_memory_counts(candidate):
    refused = Refused()
    assert refused.for_steps_like(candidate()) == {}
    for memory, needed in (("device", 9), ("device", 7), ("host", 30), ("device", 8)):
        refused.note(candidate(), memory, needed)
    assert refused.for_steps_like(candidate()) == {"device": 7, "host": 30}


def test_compiled_steps_and_others_are_apart(candidate):
    refused = Refused()
    refused.note(candidate(compiled=True), "device", 7)
    assert refused.for_steps_like(candidate()) == {}
    assert refused.for_steps_like(candidate(compiled=True)) == {"device": 7}


@pytest.mark.parametrize(
    ("needs", "memory"),
    [
        ({"device": 6, "host": 29}, None),
        ({"device": 7, "host": 29}, "device"),
        ({"device": 6, "host": 31}, "host"),
        ({"device": None, "host": None}, None),
    ],
)
def test_as_much_as_was_too_much_is_too_much(needs, memory):
    assert too_many(needs, {"device": 7, "host": 30}) == memory
    assert too_many(needs, {}) is None
