"""The largest tile that a bound on memory leaves room for, from what two small tiles were seen to take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from deblurkit.errors import DeblurkitError
from deblurkit.training.tiling import GRID, Tile, grid_of, plan_tiles
from deblurkit.units import GIB, MIB, format_bytes

MARGIN = 1.3  # room for what other shapes and a fragmented heap take beyond the straight line
FRAME_BYTES = 36  # of a window, for each pixel: 8 bits in and out, two sums in float32, one blended copy
RESERVE = 128 * MIB  # for PNG and video coding, and for what a heap keeps of freed memory
_MOST_PARTS = 64  # along one side
_STATM = Path("/proc/self/statm")
_PAGE = 4096

Measure = Callable[[Tile], int]  # peak bytes that restoring a tile of this size takes


@dataclass(frozen=True)
class TileCost:
    """Bytes that restoring a tile takes, as a straight line over its pixels.

    Attributes:
        fixed_bytes: whatever its size.
        pixel_bytes: for each pixel of each frame.
    """

    fixed_bytes: float
    pixel_bytes: float

    def of(self, tile: Tile) -> float:
        """Return the bytes of a tile, with the margin."""
        return MARGIN * (self.fixed_bytes + self.pixel_bytes * tile.frames * tile.height * tile.width)


def measure_cost(measure: Measure, *, frames: int, least: tuple[int, int], multiple: int = GRID) -> TileCost:
    """Return what tiles of a network cost, from two small ones.

    Args:
        measure: restores a tile once and returns its peak.
        frames: of every tile.
        least: smallest rows and columns that the network takes.
        multiple: what rows and columns are rounded up to (`tiling.grid_of`).
    """
    small, large = (
        Tile(frames, *(max(side, size) for side in least)).on_grid(multiple) for size in (64, 128)
    )
    if large == small:
        large = Tile(frames, 2 * small.height, small.width)
    measure(small)  # libraries are loaded and kernels are chosen by the first call
    pixels = [tile.frames * tile.height * tile.width for tile in (small, large)]
    taken = [measure(tile) for tile in (small, large)]
    slope = max(0.0, (taken[1] - taken[0]) / (pixels[1] - pixels[0]))
    if slope * pixels[1] < taken[1] / 2:  # an allocator that had the room already hides what was taken
        slope = taken[1] / pixels[1]
    return TileCost(max(0.0, taken[1] - slope * pixels[1]), slope)


def fitting_tile(
    cost: TileCost,
    frame_shape: tuple[int, int],
    *,
    frames: int,
    overlap: Tile,
    least: tuple[int, int],
    budget_bytes: float,
    spike_shape: tuple[int, int] | None = None,
) -> Tile:
    """Return the tile of ``frames`` frames that covers the frame in the fewest pieces within the budget.

    Its rows and columns are on the grid that tiles are placed by; what counts against the budget is the
    largest piece that the frame is then cut into.

    Args:
        cost: of the network.
        frame_shape: rows and columns.
        frames: of the tile.
        overlap: of neighbours.
        least: smallest rows and columns.
        budget_bytes: for the tile alone.
        spike_shape: rows and columns of the sensor, where there are spikes.

    Raises:
        DeblurkitError: if not even the smallest tile fits.
    """
    multiple = grid_of(frame_shape, spike_shape)
    sides = [
        sorted({_part(length, parts, shared, smallest, multiple) for parts in range(1, _MOST_PARTS + 1)})
        for length, shared, smallest in zip(frame_shape, overlap[1:], least, strict=True)
    ]
    tiles = [Tile(frames, height, width) for height in sides[0] for width in sides[1]]
    plans = [
        plan_tiles(frames, frame_shape, tile=tile, overlap=overlap, spike_shape=spike_shape) for tile in tiles
    ]
    fitting = [
        (plan.num_tiles, tile.height * tile.width, tile)
        for tile, plan in zip(tiles, plans, strict=True)
        if cost.of(plan.largest) <= budget_bytes
    ]
    if not fitting:
        smallest = min((plan.largest for plan in plans), key=cost.of)
        needed = cost.of(smallest)
        raise DeblurkitError(
            f"--memory: the smallest tile, {smallest.height} x {smallest.width} px of {frames} frames, takes"
            f" about {format_bytes(needed)} and {format_bytes(max(0.0, budget_bytes))} are left for it; allow"
            f" {(needed - budget_bytes) / GIB:.1f} GiB more, or take fewer frames by --tile"
        )
    return min(fitting)[-1]


def _part(length: int, parts: int, overlap: int, smallest: int, multiple: int) -> int:
    """Return the side of a tile of which so many cover ``length``; at least twice what it shares."""
    shared = _up(overlap, multiple)
    side = -(-(length + (parts - 1) * shared) // parts)
    return max(_up(side, multiple), _up(smallest, multiple), 2 * shared)


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Return how far the memory of the GPU, else of this process, rises while ``work`` runs."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    before = resident_bytes()
    highest, done = [before], threading.Event()

    def watch() -> None:
        while not done.is_set():
            highest.append(max(highest.pop(), resident_bytes()))
            time.sleep(0.001)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return highest[0] - before


def resident_bytes(statm: Path = _STATM) -> int:
    """Return the memory that this process has in RAM; 0 where the system does not tell."""
    try:
        return int(statm.read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
