"""What a cache has held and answered, and the seeds' way of writing it down."""

from __future__ import annotations

from dataclasses import dataclass

from deblurkit.units import MIB


@dataclass(frozen=True)
class CacheStats:
    """Figures of a node's cache since it was made, over all processes.

    Attributes:
        items: entries that can be read.
        bytes: what they and those being written take, in whole pages; never above ``max_bytes``.
        max_bytes: the budget.
        hits: reads that were answered.
        misses: reads that were not.
        evictions: entries dropped to make room.
        is_broken: the index could not be read, and the other figures are zeros.
    """

    items: int
    bytes: int
    max_bytes: int
    hits: int
    misses: int
    evictions: int
    is_broken: bool = False

    @property
    def hit_rate(self) -> float:
        """The share of reads that were answered; 0 before the first."""
        return self.hits / max(1, self.hits + self.misses)


def format_cache_stats(stats: CacheStats, *, name: str = "SpikeDeblurDataset") -> str:
    """Return the statistics as the seeds' ``print_cache_stats`` wrote them; MB are MiB."""
    broken = ["  - The index cannot be read: nothing is cached"] if stats.is_broken else []
    return "\n".join(
        [
            f"[{name}] Cache Stats:",
            f"  - Size: {stats.items} items",
            f"  - Memory: {stats.bytes / MIB:.1f} / {stats.max_bytes / MIB:.1f} MB",
            f"  - Hit Rate: {100 * stats.hit_rate:.2f}% ({stats.hits} hits / {stats.misses} misses)",
            *broken,
        ]
    )
