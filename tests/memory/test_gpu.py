import os
from types import SimpleNamespace

import psutil
import pytest
import torch

from deblurkit.errors import DataError
from deblurkit.memory.gpu import (
    Gpu,
    GpuLook,
    GpuState,
    Holder,
    NvmlGpus,
    RecordedGpus,
    find_gpu,
    record,
    user_of,
)

GIB = 2**30


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


A6000 = 48 * GIB
USERS = {101: "王小明", 102: "李娜", 103: "alice"}


class Server:
    """NVML's answers on a server of three A6000 that others use too; the handle is the number."""

    NVMLError = NoAnswerError
    HELD = ({101: 40 * GIB}, {102: 10 * GIB, 103: 20 * GIB}, {})
    GRAPHICS = ({}, {103: GIB, 999: GIB}, {})  # 103 draws too, 999 is of another container

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return 3

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}".encode()  # as older libraries answer

    def nvmlDeviceGetName(self, handle):
        return "NVIDIA RTX A6000"

    def nvmlDeviceGetMemoryInfo(self, handle):
        used = (41, 32, 0)[handle] * GIB
        return SimpleNamespace(total=A6000, used=used, free=A6000 - used)

    def nvmlDeviceGetUtilizationRates(self, handle):
        return SimpleNamespace(gpu=(100, 55, 0)[handle])

    def nvmlDeviceGetTemperature(self, handle, sensor):
        assert sensor == 0  # NVML_TEMPERATURE_GPU
        return (91, 60, 33)[handle]

    def nvmlDeviceGetTotalEccErrors(self, handle, kind, counter):
        if handle != 1:
            raise NoAnswerError("Not Supported")  # ECC is off
        assert kind == 1  # uncorrected
        return (2, 7)[counter]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return (0x40 | 0x04, 0, 0x01)[handle]

    def nvmlDeviceGetMigMode(self, handle):
        raise NoAnswerError("Not Supported")

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.HELD[handle].items()]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.GRAPHICS[handle].items()]


def server_look(server=None):
    return NvmlGpus(server or Server(), who=USERS.get, unseen=lambda: ["a container"]).look()


def test_all_gpus_are_seen_with_those_who_hold_them():
    look = server_look()
    first, second, third = look.gpus
    assert first == GpuState(
        index=0,
        uuid="GPU-0",
        name="NVIDIA RTX A6000",
        total_bytes=A6000,
        used_bytes=41 * GIB,
        free_bytes=7 * GIB,
        busy_percent=100.0,
        temperature_celsius=91.0,
        ecc_errors=None,
        ecc_errors_ever=None,
        slowed_by=("power limit", "temperature (hardware)"),
        holders=(Holder(101, "王小明", 40 * GIB),),
    )
    assert second.holders == (
        Holder(103, "alice", 20 * GIB),
        Holder(102, "李娜", 10 * GIB),
        Holder(999, None, GIB),
    )
    assert (second.ecc_errors, second.ecc_errors_ever) == (2, 7)
    assert second.unseen == ("processes without a user are of another container, or have ended",)
    assert (third.holders, third.slowed_by, third.unseen) == ((), (), ())  # idle clocks are no fault
    assert [gpu.unaccounted_bytes for gpu in look.gpus] == [GIB, GIB, 0]
    assert look.unseen == ("a container",)


def test_what_a_driver_does_not_tell_of_a_gpu_is_none_and_said():
    class Mute(Server):
        def nvmlDeviceGetMigMode(self, handle):
            return [1, 1]

        def nvmlDeviceGetMemoryInfo(self, handle):
            raise NoAnswerError("Insufficient Permissions")

        nvmlDeviceGetComputeRunningProcesses = nvmlDeviceGetGraphicsRunningProcesses = nvmlDeviceGetMemoryInfo

    gpu = server_look(Mute()).gpus[0]
    assert (gpu.total_bytes, gpu.used_bytes, gpu.free_bytes, gpu.unaccounted_bytes) == (None,) * 4
    assert [line.split(":")[0] for line in gpu.unseen] == [
        "it is divided (MIG)",
        "the driver does not tell which processes use it",
    ]
    assert gpu.is_divided and not server_look().gpus[0].is_divided


def test_a_gpu_that_is_lost_hides_no_other():
    class Lost(Server):
        def nvmlDeviceGetHandleByIndex(self, index):
            if index == 1:
                raise NoAnswerError("GPU is lost")
            return index

    look = server_look(Lost())
    whole = server_look().gpus
    assert look.gpus == (whole[0], whole[2])
    assert look.unseen == ("GPU 1: GPU is lost", "a container")


def test_where_every_gpu_is_lost_there_is_none_and_each_is_said():
    class Lost(Server):
        def nvmlDeviceGetHandleByIndex(self, index):
            raise NoAnswerError("GPU is lost")

    expected = tuple(f"GPU {index}: GPU is lost" for index in range(3))
    assert server_look(Lost()) == GpuLook((), expected)


def test_a_server_without_a_driver_has_no_gpus_and_says_why(monkeypatch):
    class Missing(Server):
        def nvmlInit(self):
            raise NoAnswerError("NVML Shared Library Not Found")

    assert server_look(Missing()) == GpuLook(
        (), ("NVIDIA's driver does not answer: NVML Shared Library Not Found",)
    )
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert NvmlGpus().look() == GpuLook((), ("the package nvidia-ml-py is not installed",))


def test_looks_are_played_back_as_they_were_recorded(tmp_path):
    class Later(Server):
        HELD = ({}, {}, {101: 30 * GIB})

    looks = [server_look(), server_look(Later())]
    assert looks[0] != looks[1]
    record(tmp_path / "gpus.jsonl", looks)
    assert "王小明" in (tmp_path / "gpus.jsonl").read_text(encoding="utf-8")
    reader = RecordedGpus.read(tmp_path / "gpus.jsonl")
    assert [reader.look() for _ in range(3)] == [looks[0], looks[1], looks[1]]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"gpus": [{"index": 0}]}', "not json", '{"gpus": 3}'])
def test_a_file_that_is_no_recording_is_refused(tmp_path, text):
    path = tmp_path / "gpus.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=r"gpus\.jsonl: a recording of GPUs expected"):
        RecordedGpus.read(path)


@pytest.mark.gpu
def test_this_process_holds_memory_of_the_gpu_that_it_uses():
    device = torch.device("cuda", torch.cuda.current_device())
    kept = torch.zeros(2**26, device=device)
    gpu = find_gpu(device)
    assert gpu.used_bytes() >= kept.nbytes
    assert 0 <= gpu.busy_percent() <= 100


@pytest.mark.gpu
def test_the_driver_and_cuda_agree_on_the_gpus_memory():
    device = torch.device("cuda", torch.cuda.current_device())
    properties = torch.cuda.get_device_properties(device)
    gpus = {gpu.uuid: gpu for gpu in NvmlGpus().look().gpus}
    gpu = gpus[f"GPU-{properties.uuid}"]
    assert gpu.name == properties.name
    assert gpu.total_bytes == pytest.approx(properties.total_memory, rel=0.05)
    assert gpu.used_bytes + gpu.free_bytes <= gpu.total_bytes
