import pytest
import torch

from deblurkit.models.vrt import half
from deblurkit.models.vrt.half import cpu_multiplies_bf16, in_float32, safe_over_time, where_it_pays

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "flags, multiplies",
    [
        ("flags\t\t: fpu sse2 avx2 avx512f avx512bw avx512_bf16 amx_bf16 amx_tile", True),
        ("flags\t\t: fpu sse2 avx2 avx512f avx512_bf16", True),
        ("Features\t: fp asimd sve i8mm bf16", True),  # ARM
        ("flags\t\t: fpu sse2 f16c avx2 avx512f avx512bw avx512_vnni", False),
        ("Features\t: fp asimd asimdhp", False),
        ("", False),
    ],
)
def test_a_processor_tells_of_its_bfloat16_products_in_cpuinfo(tmp_path, flags, multiplies):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nvendor_id\t: Someone\n{flags}\nbogomips\t: 5000.00\n")
    assert cpu_multiplies_bf16(path) is multiplies


def test_without_cpuinfo_none_are_assumed(tmp_path):
    assert cpu_multiplies_bf16(tmp_path / "none") is False


def dtype_of_a_product():
    return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize("multiplies, dtype", [(True, torch.bfloat16), (False, torch.float32)])
def test_autocast_stays_on_where_the_processor_has_the_products(monkeypatch, multiplies, dtype):
    monkeypatch.setattr(half, "cpu_multiplies_bf16", lambda: multiplies)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with where_it_pays(CPU):
            assert dtype_of_a_product() == dtype
        assert dtype_of_a_product() == torch.bfloat16
    with where_it_pays(CPU):
        assert dtype_of_a_product() == torch.float32  # it turns nothing on


def test_other_devices_are_never_asked_for_the_processor_s_products(monkeypatch):
    monkeypatch.setattr(half, "cpu_multiplies_bf16", lambda: pytest.fail("asked"))
    with torch.autocast("cpu", dtype=torch.bfloat16), where_it_pays(torch.device("cuda", 0)):
        assert dtype_of_a_product() == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_float32_there_is_no_autocast_and_after_it_there_is(dtype):
    with torch.autocast("cpu", dtype=dtype):
        with in_float32(CPU):
            assert dtype_of_a_product() == torch.float32
        assert dtype_of_a_product() == dtype


@pytest.mark.parametrize("frames, dtype", [(1, torch.bfloat16), (2, torch.float32), (3, torch.bfloat16)])
def test_over_time_two_frames_are_taken_in_float32(frames, dtype):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with safe_over_time(torch.ones(1, 4, frames, 2, 2)):
            assert dtype_of_a_product() == dtype
        with safe_over_time(torch.ones(1, 4, frames, 2, 2, device="meta")):  # not of a CPU
            assert dtype_of_a_product() == torch.bfloat16
