import pytest

from deblurkit.analysis.formats.log_figures import figures_of
from deblurkit.cache.stats import CacheStats, format_cache_stats

MIB = 1024**2


def told(line):
    return {figure.name: (pytest.approx(figure.value), figure.step) for figure in figures_of(line.encode())}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("# Validation # PSNR: 3.1e+01. # SSIM: 9.0e-01.", {"psnr_db": (31, None), "ssim": (0.9, None)}),
        ("Validation gopro,\t # psnr: 30.05\tBest: 32.10 @ 5000 iter", {"psnr_db": (30.05, None)}),
        ("<epoch:  3, iter:  10,000, Average PSNR : 31.23dB", {"psnr_db": (31.23, 10_000)}),
        (
            "validation after step 150 (vrt): PSNR 25.72 dB (blurry 23.41), SSIM 0.7919 (blurry 0.6833)",
            {"psnr_db": (25.72, 150), "ssim": (0.7919, 150)},
        ),
        ("PSNR(dB) = 31.5, LPIPS = 0.123", {"psnr_db": (31.5, None), "lpips": (0.123, None)}),
        (
            "[Step 100] Memory - Process: 15678.9MB (6.1%), System: 125.4/256.0GB (49.0%)",
            {"process_memory_bytes": (15678.9e6, 100), "host_memory_share": (0.49, 100)},
        ),
        (
            "[After dataset creation] Memory - Process: 12345.6MB (4.8%), System: 48.3/256.0GB (18.9%)",
            {"process_memory_bytes": (12345.6e6, None), "host_memory_share": (0.189, None)},
        ),
        ("WARNING: System memory usage is critically high (91.2%)!", {"host_memory_share": (0.912, None)}),
        ("  - Hit Rate: 82.45% (8245 hits / 1755 misses)", {"cache_hit_rate": (0.8245, None)}),
        ("Cache hit rate: 45.2% (4520 hits / 5480 misses)", {"cache_hit_rate": (0.452, None)}),
        ("Cache hit rate: 45.2%", {"cache_hit_rate": (0.452, None)}),
        (
            "  - Memory: 49876.3 / 51200.0 MB",
            {"cache_bytes": (49876.3 * MIB, None), "cache_max_bytes": (51200 * MIB, None)},
        ),
        ("GPU Util: 30%", {"gpu_utilisation": (0.3, None)}),
        ("cpu_util = 85.5 %", {"cpu_utilisation": (0.855, None)}),
        ("Avg data time: 12.5ms", {"data_ms": (12.5, None)}),
        ("  Total train batch size (w. parallel, accumulation) = 8", {"samples_per_step": (8, None)}),
        ("\tBatch size per gpu: 4", {"samples_per_gpu": (4, None)}),
        ("\tWorld size (gpu number): 8", {"world_size": (8, None)}),
        ("  metrics:\tpsnr:", {}),
        ("calculate_psnr: 4", {}),
        ("Cache hit rate: 4.5.2%", {}),
        ("nothing of a number", {}),
    ],
)
def test_the_numbers_of_a_line(line, expected):
    assert told(line) == expected


def test_our_own_cache_statistics():
    stats = CacheStats(items=374, bytes=3 * MIB, max_bytes=12 * MIB, hits=3, misses=1, evictions=0)
    found = {}
    for line in format_cache_stats(stats).splitlines():
        found.update(told(line))
    assert found == {
        "cache_bytes": (3 * MIB, None),
        "cache_max_bytes": (12 * MIB, None),
        "cache_hit_rate": (0.75, None),
    }
