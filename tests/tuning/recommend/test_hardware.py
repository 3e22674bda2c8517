from dataclasses import replace

import pytest
import torch

from deblurkit.errors import DeblurkitError
from deblurkit.memory.gpu import GpuState
from deblurkit.training.manifest import Machine
from deblurkit.tuning.recommend.hardware import describe_hardware, device_memory

GIB = 2**30


@pytest.fixture
def machine(tmp_path):
    """A machine of which a control group gives 8 GiB."""
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)  CPU @ 2.10GHz\nprocessor\t: 1\n"
    )
    (tmp_path / "driver").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue\n")
    (tmp_path / "membership").write_text("0::/\n")
    (tmp_path / "group").mkdir()
    (tmp_path / "group" / "memory.max").write_text(f"{8 * GIB}\n")
    return Machine(
        tmp_path / "cpuinfo",
        tmp_path / "driver",
        cgroup_root=tmp_path / "group",
        membership=tmp_path / "membership",
    )


def gpu(index, *, free=20, name="NVIDIA RTX A6000", unseen=()):
    return GpuState(
        index=index,
        uuid=f"GPU-{index}abc",
        name=name,
        total_bytes=48 * GIB,
        used_bytes=(48 - free) * GIB,
        free_bytes=free * GIB,
        busy_percent=50.0,
        temperature_celsius=60.0,
        ecc_errors=None,
        ecc_errors_ever=None,
        slowed_by=(),
        holders=(),
        unseen=unseen,
    )


@pytest.fixture(autouse=True)
def _no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_cpu_is_told_by_what_this_process_has_of_it(machine, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2})
    assert describe_hardware("cpu", machine=machine) == "3 x Intel(R) Xeon(R) CPU @ 2.10GHz, 8.00 GiB"


def test_a_gpu_is_told_with_its_driver_and_what_launches_on_it(machine, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    told = describe_hardware("cuda", machine=machine, environment={}, look=lambda: [gpu(0), gpu(1)])
    expected = "NVIDIA RTX A6000, 48.00 GiB, driver 550.54.15; 1 x Intel(R) Xeon(R) CPU @ 2.10GHz, 8.00 GiB"
    assert told == expected


def test_it_is_the_same_however_full_the_gpu_is_and_another_for_another_one(machine):
    def told(each, **environment):
        return describe_hardware(
            "cuda", machine=machine, environment=environment, look=lambda: [each, gpu(1, name="NVIDIA A40")]
        )

    assert told(gpu(0, free=20)) == told(replace(gpu(0, free=1), busy_percent=0.0))
    assert "A40" in told(gpu(0), CUDA_VISIBLE_DEVICES="1")


def test_the_first_gpu_that_may_be_used_has_this_much_free():
    gpus = [gpu(0, free=5), gpu(1, free=30)]
    assert device_memory(gpus, environment={}) == 5 * GIB
    assert device_memory(gpus, environment={"CUDA_VISIBLE_DEVICES": "1,0"}) == 30 * GIB


def test_without_a_driver_nothing_is_known():
    assert device_memory([], environment={}) is None


def test_gpus_none_of_which_may_be_used_are_the_users_to_mend():
    with pytest.raises(DeblurkitError, match=r"CUDA_VISIBLE_DEVICES=7: .* one of 1 GPUs"):
        device_memory([gpu(0)], environment={"CUDA_VISIBLE_DEVICES": "7"})


def test_of_a_part_of_a_gpu_cuda_tells_and_not_the_driver(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * GIB, 5 * GIB))
    divided = gpu(0, unseen=("it is divided (MIG): figures of the whole",))
    assert device_memory([divided], environment={}) == 3 * GIB
    assert device_memory([divided], environment={"CUDA_VISIBLE_DEVICES": "MIG-1"}) == 3 * GIB
    assert device_memory([gpu(0)], environment={}) == 20 * GIB
