"""Costs are made up, so that the tile which has to come out can be told by hand."""

import time

import pytest
import torch

from deblurkit.errors import DeblurkitError
from deblurkit.training.tile_size import (
    MARGIN,
    TileCost,
    fitting_tile,
    measure_cost,
    peak_bytes,
    resident_bytes,
)
from deblurkit.training.tiling import Tile, plan_tiles

OVERLAP = Tile(1, 16, 16)


def fitting(budget_pixels, shape=(720, 1280), least=(1, 1), overlap=OVERLAP, spikes=None):
    return fitting_tile(
        TileCost(0, 1),
        shape,
        frames=2,
        overlap=overlap,
        least=least,
        budget_bytes=MARGIN * 2 * budget_pixels,
        spike_shape=spikes,
    )


def test_the_whole_frame_is_taken_where_it_fits():
    assert fitting(720 * 1280) == Tile(2, 720, 1280)


def test_half_of_the_memory_makes_two_tiles():
    tile = fitting(720 * 1280 * 0.51)
    assert tile == Tile(2, 720, 648)  # (1280 + 16) / 2
    assert fitting(720 * 1280 * 0.5) != tile  # the overlap does not fit any more


@pytest.mark.parametrize("share", [1.5, 0.7, 0.3, 0.1, 0.03, 0.01])
def test_a_tile_never_takes_more_than_it_may(share):
    tile = fitting(720 * 1280 * share)
    assert tile.height * tile.width <= 720 * 1280 * share
    assert tile.height % 8 == tile.width % 8 == 0


def test_tiles_are_never_smaller_than_the_network_takes():
    assert fitting(128 * 40).height < 128
    assert fitting(128 * 40, least=(128, 33)) == Tile(2, 128, 40)
    with pytest.raises(DeblurkitError, match=r"--memory: the smallest tile, 128 x 40 px of 2 frames"):
        fitting(100 * 40, least=(128, 33))


@pytest.mark.parametrize("shared", [1, 2, 3, 4])
def test_a_small_overlap_is_rounded_up_before_tiles_are_measured_by_it(shared):
    """Tiles of 8 px would hold nothing but an overlap of 8 px, which 1 px becomes."""
    tile = fitting(16 * 16 * 1.01, shape=(200, 200), overlap=Tile(1, shared, shared))
    assert tile == Tile(2, 16, 16)


def test_tiles_are_whole_spike_pixels_and_counted_as_large_as_they_come():
    """Spike pixels 7 wide: steps of 56 px. Tiles of 280 rows begin at 0, 224 and 448; the last has 322."""
    shape, spikes = (770, 770), (110, 110)
    tile = fitting(322 * 770, shape=shape, spikes=spikes)
    assert tile == Tile(2, 280, 784)
    plan = plan_tiles(2, shape, tile=tile, overlap=OVERLAP, spike_shape=spikes)
    assert plan.rows == [(0, 280), (224, 504), (448, 770)] and plan.largest == Tile(2, 322, 770)
    assert fitting(322 * 770 - 1, shape=shape, spikes=spikes) != tile


def test_the_cost_is_the_line_through_two_tiles():
    asked = []

    def measure(tile):
        asked.append(tile)
        return 1000 + 7 * tile.frames * tile.height * tile.width

    cost = measure_cost(measure, frames=3, least=(1, 1))
    assert (cost.fixed_bytes, cost.pixel_bytes) == (pytest.approx(1000), pytest.approx(7))
    assert asked[1:] == [Tile(3, 64, 64), Tile(3, 128, 128)]
    assert cost.of(Tile(1, 8, 8)) == pytest.approx(MARGIN * (1000 + 7 * 64))


def test_what_an_allocator_hides_is_put_on_the_pixels():
    """The first tile has made the room that the second one uses: a line would rise by nearly nothing."""
    cost = measure_cost(lambda tile: 500_000, frames=2, least=(1, 1))
    assert cost.of(Tile(2, 256, 256)) == pytest.approx(4 * MARGIN * 500_000)


def test_large_windows_are_measured_on_tiles_that_they_fit():
    asked = []
    measure_cost(lambda tile: asked.append(tile) or 1, frames=2, least=(136, 130))
    assert all(tile.height >= 136 and tile.width >= 136 for tile in asked) and len(set(asked)) == 2


def test_measured_tiles_are_whole_spike_pixels():
    asked = []
    measure_cost(lambda tile: asked.append(tile) or 1, frames=2, least=(1, 1), multiple=56)
    assert set(asked) == {Tile(2, 112, 112), Tile(2, 168, 168)}


def test_the_peak_of_this_process_is_seen():
    def work():
        held = torch.ones(64 * 2**20 // 4)
        time.sleep(0.05)
        return held

    assert 60 * 2**20 <= peak_bytes(work, torch.device("cpu")) < 128 * 2**20
    assert peak_bytes(lambda: None, torch.device("cpu")) < 16 * 2**20


def test_memory_is_read_from_the_kernel_s_own_words(tmp_path):
    (tmp_path / "statm").write_text("900 5 3 1 0 7 0\n")
    assert resident_bytes(tmp_path / "statm") == 5 * 4096
    assert resident_bytes(tmp_path / "none") == 0
