import pytest
import torch

from deblurkit.data.raw import Clip
from deblurkit.tuning.overheads import overheads_of

BATCH = Clip(torch.zeros(100, dtype=torch.uint8), torch.zeros(50), torch.zeros(100, dtype=torch.uint8))


def rows(**more):
    return {row.name: row for row in overheads_of("cuda", **{"batch": BATCH, "world_size": 1, **more})}


def test_a_cpu_has_none():
    assert overheads_of("cpu", batch=BATCH, world_size=1) == ()


def test_batches_that_wait_on_the_gpu_are_counted():
    assert rows()["batches ahead"].bytes == 2 * (100 + 4 * 50 + 100)


@pytest.mark.parametrize(("setting", "count"), [(None, 8320), (":16:8", 128), (":4096:8", 32768)])
def test_the_workspace_of_cublas_is_that_of_its_variable(monkeypatch, setting, count):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if setting is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", setting)
    row = rows()["cuBLAS workspace"]
    assert row.bytes == 1024 * count and ("CUBLAS" in row.source) == (setting is not None)


def test_several_ranks_add_what_cannot_be_known():
    assert "NCCL buffers" not in rows()
    both = rows(world_size=2)
    assert both["DDP buckets"].bytes == 0 and both["NCCL buffers"].bytes is None
    assert all(row.source for row in both.values())
