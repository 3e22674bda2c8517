"""Where a search is, by the card that is named and the GPUs that a driver tells of."""

from dataclasses import replace

import pytest
import torch

from deblurkit.config.load import load_config
from deblurkit.errors import UsageError
from deblurkit.tuning.recommend import hardware
from deblurkit.tuning.recommend import place as module
from deblurkit.tuning.recommend.cards import find_card, prior_for_card
from deblurkit.tuning.recommend.place import find_place, numbers_of_devices, with_defaults
from deblurkit.tuning.recommend.records import Budget

CONFIG = load_config("quickstart", None, [], warn=lambda text: None)


@pytest.fixture
def no_gpus(monkeypatch):
    monkeypatch.setattr(module, "look_at_gpus", tuple)


@pytest.fixture
def a6000_without_nvml(monkeypatch):
    """Two cards of which PyTorch tells."""
    for name, answer in {
        "is_available": True,
        "device_count": 2,
        "get_device_name": "NVIDIA RTX A6000",
        "get_device_capability": (8, 6),
        "mem_get_info": (7, 9),
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *device, answer=answer: answer)
    monkeypatch.setattr(hardware, "look_at_gpus", tuple)


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


def test_more_memory_than_a_card_has_that_is_not_here_is_a_mistake(no_gpus):
    elsewhere = find_place(CONFIG, card="a6000")
    assert with_defaults(Budget(device_bytes=47 * 2**30), elsewhere).device_bytes == 47 * 2**30
    with pytest.raises(UsageError, match=r"--vram: 80.00 GiB .* 47.40 GiB of NVIDIA RTX A6000"):
        with_defaults(Budget(device_bytes=80 * 2**30), elsewhere)
    with_defaults(Budget(device_bytes=80 * 2**30), replace(elsewhere, can_measure=True))


@pytest.mark.parametrize("card", ["a6000", "h100"])
def test_a_card_beside_a_run_on_the_cpu_is_a_mistake(no_gpus, a6000_without_nvml, card):
    config = load_config("quickstart", None, ["TRAIN.DEVICE=cpu"], warn=lambda text: None)
    with pytest.raises(UsageError, match=f"--gpu {card}: TRAIN.DEVICE is cpu"):
        find_place(config, card=card)
    assert find_place(config).device_kind == "cpu"


@pytest.mark.parametrize("card", [None, "a6000"])
def test_a_gpu_that_only_cuda_tells_of_is_one(no_gpus, a6000_without_nvml, card):
    found = find_place(CONFIG, card=card)
    assert (found.device_kind, found.can_measure, found.device_bytes) == ("cuda", True, 7)
    assert "NVIDIA RTX A6000" in found.hardware
    assert found.prior == prior_for_card(find_card("a6000"))
    assert list(numbers_of_devices(2, found)) == [1, 2]
    with pytest.raises(UsageError, match="--devices 3: 2 GPUs"):
        numbers_of_devices(3, found)
    assert not find_place(CONFIG, card="h100").can_measure


def test_numbers_of_devices_are_even_or_all(no_gpus):
    elsewhere = find_place(CONFIG, card="a6000")
    assert list(numbers_of_devices(1, elsewhere)) == [1]
    assert list(numbers_of_devices(7, elsewhere)) == [1, 2, 4, 6, 7]


def test_more_gpus_than_there_are_is_a_mistake(no_gpus):
    with pytest.raises(UsageError, match="--devices 2: 0 GPUs"):
        numbers_of_devices(2, find_place(CONFIG))
