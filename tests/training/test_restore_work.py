"""Networks are plain functions of what they are given, so that the frame which has to come out is known."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from deblurkit.data.inputs import Exposures
from deblurkit.data.spikes import ArraySpikes
from deblurkit.errors import DeblurkitError, UsageError
from deblurkit.training import restore_work
from deblurkit.training.precision import Precision
from deblurkit.training.restore_work import RestoreWork
from deblurkit.training.tiling import Tile

CPU = Precision(torch.device("cpu"), None)


class Frames:
    """Noise of a size, as an input."""

    spikes = None
    frame_rate = None

    def __init__(self, count, height, width):
        rng = np.random.default_rng(0)
        self.values = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        self.names = [str(number) for number in range(count)]
        self.shape = (height, width)

    def read(self, start, stop):
        return self.values[start:stop]


class Echo(nn.Module):
    """Gives the blurry clip back; notes the sizes that it is called with."""

    def __init__(self, num_voxel_bins=0):
        super().__init__()
        self.num_voxel_bins = num_voxel_bins
        self.called = []

    def forward(self, blurry, voxels):
        self.called.append((tuple(blurry.shape[1:]), None if voxels is None else tuple(voxels.shape[1:])))
        return blurry


@pytest.fixture
def make(tiny_config):
    def work(frames, model=None, spikes=None, **keys):
        config = tiny_config("DATA.CLIP_LEN=3", *(f"{name}={value}" for name, value in keys.items()))
        return RestoreWork(model or Echo(), config, CPU, frames, spikes)

    return work


def pictures(folder):
    return np.stack([cv2.imread(str(path))[..., ::-1] for path in sorted(folder.glob("*.png"))])


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (24, 64), (20, 100)])
def test_frames_no_larger_than_the_overlap_are_one_tile(make, tmp_path, size):
    frames = Frames(2, *size)
    work = make(frames)
    plan = work.plan(None, None, None, chosen=None)
    assert (plan.tiles.num_tiles, plan.tiles.largest) == (1, (2, *size))
    assert work.restore_to(tmp_path, plan.tiles, None) == 2
    assert np.array_equal(pictures(tmp_path), frames.values)


def test_an_overlap_larger_than_the_frame_is_none(make):
    plan = make(Frames(1, 64, 64)).plan(None, Tile(-1, 64, 64), None, chosen=None)
    assert plan.tiles.num_tiles == 1


def test_a_tile_that_its_overlap_fills_is_a_clear_error(make):
    with pytest.raises(DeblurkitError, match="tiles of 8 x 8 px that overlap by 8 x 8 px"):
        make(Frames(1, 64, 64)).plan(Tile(0, 8, 8), None, None, chosen=None)
    plan = make(Frames(1, 64, 64)).plan(Tile(0, 8, 8), Tile(0, 0, 0), None, chosen=None)
    assert plan.tiles.num_tiles == 64
    with pytest.raises(
        UsageError, match="--overlap: expected at most half of the tile of 32 x 32 px, got 20 x 8"
    ):
        make(Frames(1, 64, 64)).plan(Tile(0, 32, 32), Tile(0, 20, 8), None, chosen=None)


@pytest.mark.parametrize("ratio", [3, 7])
def test_tiles_are_whole_spike_pixels_however_wide_these_are(make, tmp_path, ratio):
    """Spikes 28 x 32; 64 px become 72 of 3 x 8, or 112 of 7 x 8."""
    frames = Frames(2, 28 * ratio, 32 * ratio)
    bits = np.random.default_rng(1).integers(0, 2, (8, 28, 32), dtype=np.uint8)
    model = Echo(num_voxel_bins=4)
    work = make(frames, model, Exposures(ArraySpikes(bits), [0, 4], 4), **{"DATA.NUM_VOXEL_BINS": 4})
    plan = work.plan(Tile(0, 64, 64), None, None, chosen=None)
    assert plan.tile == (2, *({3: (72, 72), 7: (112, 112)}[ratio]))
    work.restore_to(tmp_path, plan.tiles, None)
    assert len(model.called) == plan.tiles.num_tiles > 1
    for blurry, voxels in model.called:
        assert blurry[2:] == (ratio * voxels[2], ratio * voxels[3])
    assert np.array_equal(pictures(tmp_path), frames.values)


def test_the_memory_bound_makes_tiles_or_says_what_it_lacks(make, monkeypatch):
    work = make(Frames(2, 136, 264))
    assert work.plan(None, None, 64, chosen=None).tile == (2, 136, 264)
    with pytest.raises(DeblurkitError, match="--memory: the smallest tile, .* GiB more"):
        work.plan(None, None, 0.1, chosen=None)
    monkeypatch.setattr(restore_work, "peak_bytes", lambda work, device: 1000 + 100 * 2 * 64 * 64)
    monkeypatch.setattr(restore_work, "resident_bytes", lambda: 0)
    held = restore_work.RESERVE + restore_work.FRAME_BYTES * 2 * 136 * 264
    # 128 x 128 px of two frames are seen to take 820 200 bytes: 25 a pixel and frame, with the margin 32.5.
    plan = work.plan(None, None, (held + 32.6 * 2 * 136 * 144) / 2**30, chosen=None)
    assert plan.tile == (2, 136, 144) and plan.tiles.num_tiles == 2
    assert work.plan(None, None, 64, chosen=list(plan.tile)).tile == plan.tile  # as the work before had it


def test_values_that_are_no_numbers_are_no_black_frames(make, tmp_path):
    class Breaks(Echo):
        def forward(self, blurry, voxels):
            return (
                torch.where(blurry == blurry.flatten()[0], torch.nan, blurry)
                if self.called
                else super().forward(blurry, voxels)
            )

    work = make(Frames(6, 16, 16), Breaks())
    plan = work.plan(Tile(3, 16, 16), Tile(0, 0, 0), None, chosen=None)
    with pytest.raises(DeblurkitError, match=r"3.png: not written: the network makes NaN or infinite values"):
        work.restore_to(tmp_path, plan.tiles, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png"]


def test_what_to_do_about_memory_names_a_smaller_tile(make, tmp_path):
    class Full(Echo):
        def forward(self, blurry, voxels):
            raise MemoryError

    work = make(Frames(3, 64, 96), Full())
    assert work.more_memory()[0].startswith("the network alone does not fit")
    with pytest.raises(MemoryError):
        work.restore_to(tmp_path, work.plan(None, None, None, chosen=None).tiles, None)
    first, second = work.more_memory()
    assert "a tile of 3 x 64 x 96 (frames x rows x columns)" in first and "--tile 3x32x48" in first
    assert "another --output" in second
