"""The form of the seeds' `print_cache_stats`, with the figures of their example."""

from deblurkit.cache.stats import CacheStats, format_cache_stats

MIB = 1024**2


def stats(**changes):
    figures = {"items": 374, "bytes": int(49876.3 * MIB), "max_bytes": 51200 * MIB}
    return CacheStats(**{**figures, "hits": 8245, "misses": 1755, "evictions": 3, **changes})


def test_the_text_is_that_of_the_seeds():
    assert format_cache_stats(stats()) == (
        "[SpikeDeblurDataset] Cache Stats:\n"
        "  - Size: 374 items\n"
        "  - Memory: 49876.3 / 51200.0 MB\n"
        "  - Hit Rate: 82.45% (8245 hits / 1755 misses)"
    )


def test_before_the_first_read_the_rate_is_zero():
    assert "Hit Rate: 0.00% (0 hits / 0 misses)" in format_cache_stats(stats(hits=0, misses=0))


def test_another_name_and_a_broken_index_are_told():
    text = format_cache_stats(stats(is_broken=True), name="Train")
    assert text.startswith("[Train] Cache Stats:")
    assert text.endswith("The index cannot be read: nothing is cached")
