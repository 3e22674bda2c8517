from dataclasses import replace

import pytest

from deblurkit.memory.gpu import Gpu
from deblurkit.tuning.gpu_doubts import gpu_doubt


@pytest.fixture
def mixed(gpu_of):
    """Two A6000, and between them a card for the screen."""
    return [gpu_of(0, 40), replace(gpu_of(1, 3), name="NVIDIA T400"), gpu_of(2, 40)]


@pytest.mark.parametrize(
    ("setting", "order", "ranks", "is_doubtful"),
    [
        (None, None, 1, True),
        (None, "FASTEST_FIRST", 2, True),
        ("1", None, 1, True),
        ("1", "PCI_BUS_ID", 1, False),
        ("GPU-2abc", None, 1, False),
        (None, None, 3, False),  # all are taken, in whatever order
        ("", None, 0, False),
    ],
)
def test_models_that_differ_may_have_other_numbers_for_cuda(mixed, setting, order, ranks, is_doubtful):
    found = gpu_doubt(mixed, taken=mixed[:ranks], setting=setting, order=order)
    assert found.endswith("set CUDA_DEVICE_ORDER=PCI_BUS_ID") is is_doubtful
    assert bool(found) is is_doubtful


def test_among_gpus_of_one_model_the_order_does_not_matter(gpu_of):
    gpus = [gpu_of(index, 40) for index in range(3)]
    assert gpu_doubt(gpus, taken=gpus[:1], setting=None, order=None) == ""


def test_of_a_divided_gpu_a_run_gets_a_part(gpu_of):
    class Library:
        NVMLError = RuntimeError

        def nvmlDeviceGetMigMode(self, handle):
            return [1, 1]

    divided = replace(gpu_of(0, 40), unseen=Gpu(Library(), None).state(0).unseen)
    found = gpu_doubt([divided], taken=[divided], setting=None, order="PCI_BUS_ID")
    assert found.startswith("it is divided (MIG)")
