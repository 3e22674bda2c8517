"""Expected clips come from calling the network on the whole, or from sums written down as plain loops."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from deblurkit.errors import DataError, DeblurkitError
from deblurkit.models.blocks import ResidualBlock
from deblurkit.models.unet import ClipUNet
from deblurkit.training.tiling import (
    Tile,
    TimeBlend,
    blend_weights,
    plan_tiles,
    restore_tiled,
    spans,
    whole_ratio,
)


@given(
    length=st.integers(1, 2000),
    units=st.integers(1, 40),
    overlap=st.integers(0, 300),
    multiple=st.sampled_from([1, 2, 8, 24]),
)
def test_spans_cover_evenly_with_the_overlap_that_was_asked_for(length, units, overlap, multiple):
    tile = units * multiple
    if length // multiple <= units:  # one covers all, whatever neighbours would share
        assert spans(length, tile, overlap, multiple) == [(0, length)]
        return
    if -(-overlap // multiple) >= units:
        with pytest.raises(ValueError, match="larger than its overlap"):
            spans(length, tile, overlap, multiple)
        return
    found = spans(length, tile, overlap, multiple)
    starts = [start for start, _ in found]
    assert found[0][0] == 0 and found[-1][1] == length
    assert all(start % multiple == 0 for start in starts)
    assert all(stop - start == tile for start, stop in found[:-1])
    if len(found) > 1:
        assert tile <= found[-1][1] - found[-1][0] < tile + multiple
    shared = [before[1] - after[0] for before, after in zip(found, found[1:], strict=False)]
    assert all(common >= overlap for common in shared)
    steps = [b - a for a, b in zip(starts, starts[1:], strict=False)]
    assert not steps or max(steps) - min(steps) <= multiple


def test_as_many_tiles_as_vrt_needs_for_a_hundred_frames_of_720p():
    plan = plan_tiles(100, (720, 1280), tile=Tile(18, 192, 192), overlap=Tile(2, 20, 20))
    assert plan.num_tiles == 280  # counted in VRT's own testing of GoPro
    assert spans(720, 192, 20, 8) == [(0, 192), (128, 320), (264, 456), (392, 584), (528, 720)]


@given(st.integers(1, 400), st.integers(2, 60), st.integers(0, 50))
def test_weights_are_positive_and_sum_to_one_everywhere(length, tile, overlap):
    covering = spans(length, tile, min(overlap, tile - 1))
    total = torch.zeros(length, dtype=torch.float64)  # in float32 a sum of 50 is up to 4e-7 off by itself
    for (start, stop), weight in zip(covering, blend_weights(covering), strict=True):
        assert weight.min() > 0
        total[start:stop] += weight
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-7)


def test_the_weights_of_two_spans_cross_in_the_middle_of_what_they_share():
    first, second = blend_weights([(0, 5), (2, 7)])
    torch.testing.assert_close(first, torch.tensor([1, 1, 0.75, 0.5, 0.25]))
    torch.testing.assert_close(second, torch.tensor([0.25, 0.5, 0.75, 1, 1]))


def mixing(blurry, voxels):
    """Looks one pixel and one frame around, so that a tile with a border of one is right inside."""
    near = F.avg_pool2d(blurry.flatten(0, -4), 3, 1, 1).view_as(blurry)
    near = near + torch.cat([blurry[..., :1, :, :, :], blurry[..., :-1, :, :, :]], dim=-4)
    if voxels is not None:
        ratio = blurry.shape[-1] // voxels.shape[-1]
        near = near + voxels.mean(-3, keepdim=True).repeat_interleave(ratio, -1).repeat_interleave(ratio, -2)
    return near


def pointwise(blurry, voxels):
    grown = voxels.sum(-3, keepdim=True).repeat_interleave(4, -1).repeat_interleave(4, -2)
    return blurry.square() + grown


def clip(shape=(5, 3, 52, 76), bins=2, ratio=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = (*shape[:-3], bins, shape[-2] // ratio, shape[-1] // ratio)
    return torch.rand(shape, generator=generator), torch.rand(size, generator=generator)


def test_one_tile_over_everything_is_the_plain_call():
    blurry, voxels = clip()
    tiled = restore_tiled(mixing, blurry, voxels, tile=Tile(5, 56, 80), overlap=Tile(1, 8, 8))
    assert torch.equal(tiled, mixing(blurry, voxels))


@pytest.mark.parametrize("lead", [(), (2,)])
def test_what_looks_at_one_pixel_is_the_same_in_tiles(lead):
    blurry, voxels = clip((*lead, 5, 3, 52, 76))
    tiled = restore_tiled(pointwise, blurry, voxels, tile=Tile(2, 16, 24), overlap=Tile(1, 8, 3))
    torch.testing.assert_close(tiled, pointwise(blurry, voxels), rtol=0, atol=1e-6)


def test_tiles_are_blended_as_a_plain_loop_over_pixels_blends_them():
    blurry, voxels = clip((3, 3, 24, 40))
    seen = []

    def numbered(part, _):
        seen.append(tuple(part.shape))
        return torch.full_like(part, float(len(seen)))

    tiled = restore_tiled(numbered, blurry, voxels, tile=Tile(2, 16, 24), overlap=Tile(1, 8, 8))
    assert seen == [(2, 3, 16, 24)] * 8
    for t, y, x in ((0, 0, 0), (1, 9, 17), (1, 12, 20), (2, 23, 39)):
        value = total = 0.0
        for number in range(8):
            start, top, left = number // 4, 8 * (number // 2 % 2), 16 * (number % 2)
            inside = start <= t < start + 2 and top <= y < top + 16 and left <= x < left + 24
            if inside:
                weight = 1.0
                weight *= 0.5 if t == 1 else 1
                weight *= (y - 7) / 9 if top and y < 16 else (16 - y) / 9 if not top and y >= 8 else 1
                weight *= (x - 15) / 9 if left and x < 24 else (24 - x) / 9 if not left and x >= 16 else 1
                value, total = value + weight * (number + 1), total + weight
        assert tiled[t, 0, y, x].item() == pytest.approx(value / total, abs=1e-5)


def test_the_spikes_of_a_tile_are_those_under_it():
    blurry = torch.arange(48.0).view(1, 1, 1, 48).expand(2, 3, 32, 48)
    voxels = torch.arange(12.0).view(1, 1, 1, 12).expand(2, 5, 8, 12)

    def check(part, beneath):
        assert beneath.shape[-2:] == (part.shape[-2] // 4, part.shape[-1] // 4)
        assert torch.equal(part[0, 0, 0, ::4], 4 * beneath[0, 0, 0])
        return part

    assert torch.equal(restore_tiled(check, blurry, voxels, tile=Tile(2, 16, 16)), blurry)


def test_a_network_agrees_with_itself_in_tiles_inside_of_its_reach():
    """Beyond what a tile's border can change, only the order of sums in the kernels differs."""
    torch.manual_seed(0)
    network = ClipUNet(block=ResidualBlock, base_channels=4, num_blocks=1, num_voxel_bins=2).eval()
    torch.nn.init.normal_(network.frames_out.weight, std=0.1)
    blurry, voxels = clip((2, 3, 96, 192), ratio=2)
    reach = 48  # 3 levels of few 3x3 convolutions; at the coarsest one a pixel is 8 wide
    with torch.no_grad():
        whole = network(blurry[None], voxels[None])[0]
        tiled = restore_tiled(
            lambda b, v: network(b[None], v[None])[0],
            blurry,
            voxels,
            tile=Tile(2, 96, 128),
            overlap=Tile(0, 0, 64),
        )
    difference = (whole - tiled).abs()
    assert difference[..., : 64 - reach].max() < 1e-5 and difference[..., 128 + reach :].max() < 1e-5
    assert 0 < difference.max() < 0.2


def test_frames_come_out_of_time_once_their_last_window_is_in():
    covering = [(0, 4), (2, 6), (5, 9)]
    blend, weights = TimeBlend(covering), blend_weights(covering)
    windows = [torch.rand(4, 3, 2, 2) for _ in covering]
    done = [blend.add(number, window) for number, window in enumerate(windows)]
    assert [len(frames) for frames in done] == [2, 3, 4]
    expected = torch.zeros(9, 3, 2, 2)
    for (start, stop), window, weight in zip(covering, windows, weights, strict=True):
        for t in range(start, stop):
            expected[t] += weight[t - start] * window[t - start]
    torch.testing.assert_close(torch.cat(done), expected)


def test_a_run_of_windows_gives_the_bits_of_all_of_them():
    covering = [(0, 4), (2, 6), (5, 9)]
    windows = [torch.rand(4, 3, 2, 2) for _ in covering]
    blend = TimeBlend(covering)
    everything = [blend.add(number, window) for number, window in enumerate(windows)]
    later = TimeBlend(covering)
    later.add(1, windows[1])
    assert torch.equal(later.add(2, windows[2]), everything[2])


def test_sizes_that_do_not_go_together_are_refused():
    assert whole_ratio((720, 1280), (360, 640)) == 2
    with pytest.raises(DataError, match="frames of 720x1280 and spikes of 250x400"):
        plan_tiles(3, (720, 1280), tile=Tile(3, 64, 64), spike_shape=(250, 400))
    with pytest.raises(ValueError, match="larger than its overlap"):
        spans(720, 64, 64, 8)


@pytest.mark.parametrize(
    ("tile", "overlap", "spikes", "told"),
    [
        (Tile(3, 64, 64), Tile(0, 64, 0), None, "tiles of 64 x 64 px that overlap by 64 x 0 px"),
        (Tile(3, 8, 8), Tile(0, 2, 2), None, "tiles of 8 x 8 px that overlap by 8 x 8 px"),  # 2 is below 8
        (Tile(3, 50, 112), Tile(0, 12, 24), (98, 98), "tiles of 56 x 112 px .* 56 x 56 px.* multiples of 56"),
    ],
)
def test_tiles_that_hold_nothing_but_their_overlap_are_a_clear_error(tile, overlap, spikes, told):
    with pytest.raises(DeblurkitError, match=f"expected tiles larger than their overlap, got {told}"):
        plan_tiles(3, (686, 686), tile=tile, overlap=overlap, spike_shape=spikes)


@pytest.mark.parametrize("length", [1, 8, 23, 24, 31])
def test_frames_no_larger_than_a_tile_may_overlap_by_anything(length):
    plan = plan_tiles(3, (length, 64), tile=Tile(3, length, 32), overlap=Tile(0, 24, 24))
    assert plan.rows == [(0, length)]


def test_the_largest_tile_of_a_plan_has_what_is_left_over():
    plan = plan_tiles(7, (60, 90), tile=Tile(3, 20, 20), overlap=Tile(1, 0, 0), spike_shape=(20, 30))
    assert plan.largest == Tile(3, 36, 42)  # rows to 24 and 60, columns to 24, 48 and 90


def test_tiles_are_whole_spike_pixels_on_the_grid():
    plan = plan_tiles(4, (60, 90), tile=Tile(2, 20, 20), spike_shape=(20, 30))
    assert plan.ratio == 3 and plan.num_tiles == 2 * 2 * 3
    assert plan.rows == [(0, 24), (24, 60)] and plan.columns == [(0, 24), (24, 48), (48, 90)]
