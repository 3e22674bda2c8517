"""Where a search is, by the card that is named and the GPUs that a driver tells of."""

from dataclasses import replace

import pytest

from deblurkit.config.load import load_config
from deblurkit.errors import UsageError
from deblurkit.tuning.recommend import place as module
from deblurkit.tuning.recommend.place import find_place, numbers_of_devices, with_defaults
from deblurkit.tuning.recommend.records import Budget

CONFIG = load_config("quickstart", None, [], warn=lambda text: None)


@pytest.fixture
def no_gpus(monkeypatch):
    monkeypatch.setattr(module, "look_at_gpus", tuple)


def test_without_a_gpu_steps_are_taken_on_the_cpu(no_gpus):
    found = find_place(CONFIG)
    assert (found.device_kind, found.can_measure, found.device_bytes) == ("cpu", True, None)
    assert found.host_bytes is not None
    assert found.host_bytes > 0


def test_a_card_that_is_not_here_is_not_measured(no_gpus):
    found = find_place(CONFIG, card="a6000")
    assert (found.device_kind, found.can_measure, found.hardware) == ("cuda", False, "NVIDIA RTX A6000")
    assert found.device_bytes == pytest.approx(47.4 * 2**30)  # of 48 GB, what nvidia-smi shows free of it
    assert found.host_bytes is None
    assert found.has_bf16
    assert not find_place(CONFIG, card="v100").has_bf16


def test_an_unknown_card_is_named_with_its_likes(no_gpus):
    with pytest.raises(UsageError, match="a6000"):
        find_place(CONFIG, card="a600")


def test_a_budget_takes_what_is_not_given_from_the_place(no_gpus):
    here = replace(find_place(CONFIG), device_bytes=7, host_bytes=9)
    assert with_defaults(Budget(), here) == Budget(7, 9)
    assert with_defaults(Budget(device_bytes=5, host_bytes=6, trials=3), here) == Budget(5, 6, trials=3)
    assert with_defaults(Budget(), replace(here, can_measure=False)).trials == 0


def test_numbers_of_devices_are_even_or_all(no_gpus):
    elsewhere = find_place(CONFIG, card="a6000")
    assert list(numbers_of_devices(1, elsewhere)) == [1]
    assert list(numbers_of_devices(7, elsewhere)) == [1, 2, 4, 6, 7]


def test_more_gpus_than_there_are_is_a_mistake(no_gpus):
    with pytest.raises(UsageError, match="--devices 2: 0 GPUs"):
        numbers_of_devices(2, find_place(CONFIG))
