"""For which device a search is, this machine's or a card that it has not, and what is there for a run."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from deblurkit.config.schema import Config
from deblurkit.data.workers import available_cpus
from deblurkit.errors import UsageError
from deblurkit.memory.gpu import GpuState
from deblurkit.memory.limits import host_limits, tightest
from deblurkit.tuning.recommend.cards import (
    Card,
    Prior,
    find_card,
    prior_for_card,
    prior_for_cpu,
    prior_for_gpu,
)
from deblurkit.tuning.recommend.hardware import describe_hardware, device_memory, look_at_gpus
from deblurkit.tuning.recommend.records import Budget
from deblurkit.tuning.run_memory import VISIBLE, device_kind, visible_gpus
from deblurkit.tuning.step_memory import DeviceKind
from deblurkit.units import format_bytes

_BF16_FROM = (8, 0)  # compute capability: older GPUs emulate bfloat16
_OLD_CARDS = ("V100", "T4")  # of the table: likewise


@dataclass(frozen=True)
class Place:
    """What a search is for, and whether steps can be taken there.

    Attributes:
        device_kind: of the device that the answer is for.
        hardware: it in words.
        prior: what it may reach in a step.
        gpus: that may be used here, in CUDA's order.
        can_measure: whether steps can be taken on it.
        has_bf16: whether it multiplies bfloat16.
        has_eight_bit: whether the optimiser with 8-bit states can be had.
        device_bytes: memory of a device that is free for the run; None where nothing bounds or tells it.
        host_bytes: memory of the machine that is there; None where that is not known, or another machine.
    """

    device_kind: DeviceKind
    hardware: str
    prior: Prior
    gpus: tuple[GpuState, ...]
    can_measure: bool
    has_bf16: bool
    has_eight_bit: bool
    device_bytes: int | None
    host_bytes: int | None


def find_place(
    config: Config, *, card: str | None = None, environment: Mapping[str, str] = os.environ
) -> Place:
    """Return the place of a search: the card that is named, or what a run of ``config`` would be on here.

    Args:
        config: whose TRAIN.DEVICE counts where no card is named.
        card: a graphics card by name; one that this machine has is measured on.
        environment: whose CUDA_VISIBLE_DEVICES counts.

    Raises:
        UsageError: for a card that is not known, or beside TRAIN.DEVICE=cpu.
        DeblurkitError: if CUDA_VISIBLE_DEVICES names no GPU.
    """
    gpus = tuple(visible_gpus(look_at_gpus(), environment.get(VISIBLE)))
    if card is None:
        return _here(_kind(config.train.device, gpus), gpus, environment)
    wanted = find_card(card)
    if config.train.device == "cpu":
        raise UsageError(
            f"--gpu {card}: TRAIN.DEVICE is cpu, where no step is taken on a GPU; leave --gpu out, or"
            " take --set TRAIN.DEVICE=auto"
        )
    if _name_of_first(gpus) == wanted.driver_name:
        return _here("cuda", gpus, environment)
    return _elsewhere(wanted, gpus)


def with_defaults(budget: Budget, place: Place) -> Budget:
    """Return a budget in which what was not given is what is there.

    Raises:
        UsageError: if more memory of a device is given than a card has that is not here to try.
    """
    device, most = budget.device_bytes, place.device_bytes
    if device is not None and most is not None and not place.can_measure and device > most:
        raise UsageError(
            f"--vram: {format_bytes(device)} were given, and a run has {format_bytes(most)} of"
            f" {place.hardware}; give no more, or leave --vram out"
        )
    return replace(
        budget,
        device_bytes=most if device is None else device,
        host_bytes=place.host_bytes if budget.host_bytes is None else budget.host_bytes,
        trials=budget.trials if place.can_measure else 0,
    )


def numbers_of_devices(most: int, place: Place) -> Sequence[int]:
    """Return the numbers of devices that may be chosen, one first.

    Raises:
        UsageError: for more GPUs than may be used here.
    """
    there = len(place.gpus) or torch.cuda.device_count()
    if most > 1 and place.can_measure and there < most:
        raise UsageError(
            f"--devices {most}: {there} GPUs may be used here; give as many at most, or name"
            " the card that you mean by --gpu"
        )
    return [number for number in range(1, most + 1) if number in (1, most) or number % 2 == 0]


def _kind(setting: str, gpus: Sequence[GpuState]) -> DeviceKind:
    """Return what a run would be on; there may be a GPU where the driver's library tells of none."""
    return "cuda" if setting == "auto" and torch.cuda.is_available() else device_kind(setting, gpus)


def _name_of_first(gpus: Sequence[GpuState]) -> str | None:
    if gpus:
        return gpus[0].name
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _elsewhere(card: Card, gpus: tuple[GpuState, ...]) -> Place:
    return Place(
        device_kind="cuda",
        hardware=card.driver_name,
        prior=prior_for_card(card),
        gpus=gpus,
        can_measure=False,
        has_bf16=not any(old in card.driver_name for old in _OLD_CARDS),
        has_eight_bit=True,
        device_bytes=card.memory_bytes,
        host_bytes=None,
    )


def _here(kind: DeviceKind, gpus: tuple[GpuState, ...], environment: Mapping[str, str]) -> Place:
    on_gpu = kind == "cuda"
    tight = tightest(host_limits())
    name = _name_of_first(gpus) or "a GPU"
    return Place(
        device_kind=kind,
        hardware=describe_hardware(kind, environment=environment),
        prior=prior_for_gpu(name) if on_gpu else prior_for_cpu(available_cpus()),
        gpus=gpus,
        can_measure=not on_gpu or torch.cuda.is_available(),
        has_bf16=not on_gpu or not torch.cuda.is_available() or _multiplies_bf16(),
        has_eight_bit=importlib.util.find_spec("bitsandbytes") is not None,
        device_bytes=device_memory(environment=environment) if on_gpu else None,
        host_bytes=None if tight is None else tight.available_bytes,
    )


def _multiplies_bf16() -> bool:
    return torch.cuda.get_device_capability(0) >= _BF16_FROM
