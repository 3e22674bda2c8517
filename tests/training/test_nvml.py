import os
from types import SimpleNamespace

import psutil
import pytest
import torch

from deblurkit.training.nvml import Gpu, Holder, find_gpu, user_of


class NoAnswerError(Exception):
    """As pynvml.NVMLError: a driver that does not know, or does not tell."""


class Library:
    """NVML's functions as pynvml offers them, of a GPU with two processes."""

    NVMLError = NoAnswerError

    def nvmlDeviceGetUtilizationRates(self, handle):
        return SimpleNamespace(gpu=93, memory=40)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(total=80, used=30, free=50)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [
            SimpleNamespace(pid=2**22 + 1, usedGpuMemory=None),  # above Linux's largest pid: nobody's
            SimpleNamespace(pid=os.getpid(), usedGpuMemory=20),
        ]


class Silent(Library):
    def nvmlDeviceGetUtilizationRates(self, handle):
        raise NoAnswerError("Not Supported")

    nvmlDeviceGetMemoryInfo = nvmlDeviceGetComputeRunningProcesses = nvmlDeviceGetUtilizationRates


def test_a_gpu_says_how_busy_it_is_and_who_holds_its_memory():
    gpu = Gpu(Library(), None)
    assert (gpu.busy_percent(), gpu.used_bytes()) == (93.0, 30)
    own, other = gpu.holders()
    assert own == Holder(os.getpid(), psutil.Process().username(), 20)
    assert own.is_this_process
    assert other == Holder(2**22 + 1, None, None)
    assert not other.is_this_process


def test_what_the_driver_does_not_tell_is_none():
    gpu = Gpu(Silent(), None)
    assert (gpu.busy_percent(), gpu.used_bytes(), gpu.holders()) == (None, None, [])


def test_a_cpu_is_no_gpu():
    assert find_gpu(torch.device("cpu")) is None


def test_without_the_package_there_is_no_gpu_to_ask(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert find_gpu(torch.device("cuda", 0)) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="here CUDA finds a GPU")
def test_without_a_driver_there_is_no_gpu_to_ask():
    assert find_gpu(torch.device("cuda", 0)) is None


def test_the_user_of_a_process_is_known_where_there_is_one():
    assert user_of(os.getpid()) == psutil.Process().username()
    assert user_of(2**22 + 1) is None


@pytest.mark.gpu
def test_this_process_holds_memory_of_the_gpu_that_it_uses():
    device = torch.device("cuda", torch.cuda.current_device())
    kept = torch.zeros(2**26, device=device)
    gpu = find_gpu(device)
    assert gpu.used_bytes() >= kept.nbytes
    assert 0 <= gpu.busy_percent() <= 100
