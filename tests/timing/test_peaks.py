import pytest

from deblurkit.timing.peaks import TABLE, peak_of


@pytest.mark.parametrize(
    ("name", "dtype", "tera"),  # of the makers' data sheets, dense
    [
        ("NVIDIA RTX A6000", "bf16", 154.8),
        ("NVIDIA GeForce RTX 4090", "fp16", 165.2),
        ("NVIDIA GeForce RTX 3090", "fp32", 35.6),
        ("NVIDIA A100-SXM4-80GB", "tf32", 156.0),
        ("NVIDIA H100 PCIe", "bf16", 756.5),
        ("NVIDIA H100 80GB HBM3", "bf16", 989.5),
        ("NVIDIA H200", "bf16", 989.5),
        ("NVIDIA L40S", "bf16", 362.05),
    ],
)
def test_known_devices_have_their_peak(name, dtype, tera):
    assert peak_of(name, dtype).flops_per_second == tera * 1e12


@pytest.mark.parametrize(
    "name",
    [
        "CPU (x86_64, 2 threads)",
        "NVIDIA L40",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA RTX A4000",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    ],
)
def test_others_have_none(name):
    assert peak_of(name, "bf16") is None


def test_a_type_that_a_device_lacks_has_no_peak():
    assert peak_of("Tesla V100-SXM2-16GB", "bf16") is None
    assert peak_of("Tesla V100-SXM2-16GB", "fp16").flops_per_second == 125e12


def test_every_entry_has_a_source_and_rising_figures():
    for peaks in TABLE:
        assert peaks.source and peaks.tera["fp32"] <= peaks.tera.get("tf32", 1e9) <= 1e9
        assert peaks.tera["fp16"] >= peaks.tera["fp32"]
