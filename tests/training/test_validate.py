"""Expected scores come from the metrics applied by hand to frames that the dataset itself gives."""

import numpy as np
import pytest
import torch
from torch import nn

from deblurkit.data.loaders import LoadedBatch
from deblurkit.data.unified import open_dataset
from deblurkit.training import metrics
from deblurkit.training.held_out import HeldOut, evaluation_clips
from deblurkit.training.precision import Precision
from deblurkit.training.validate import restore_frames

PRECISION = Precision(torch.device("cpu"), None)


class Echo(nn.Module):
    """Gives the blurry clip back, brightened by the mean of the spikes."""

    num_voxel_bins = 4

    def forward(self, blurry, spikes):
        return blurry + spikes.mean()


@pytest.fixture
def held_out(dataset_root, tiny_config):
    config = tiny_config("DATA.CLIP_LEN=2", "DATA.NUM_VOXEL_BINS=4")
    clips = evaluation_clips(open_dataset(dataset_root), config, split="test")
    return HeldOut(clips, batch_size=2, num_workers=0, prefetch_factor=2)


def test_an_echo_scores_what_the_blurry_frames_score(held_out, dataset_root):
    counted = []
    result = held_out.validate(
        Echo(), precision=PRECISION, spikes="zeroed", progress=lambda *count: counted.append(count)
    )
    (sequence,) = open_dataset(dataset_root).sequences("test")
    pairs = [(sequence.read_blurry(t), sequence.read_sharp(t)) for t in range(sequence.num_frames)]
    assert result.protocol == "vrt"
    assert result.score.psnr_db == result.score.psnr_db_blurry
    assert result.score.psnr_db == pytest.approx(np.mean([metrics.psnr_db(*pair) for pair in pairs]))
    assert result.score.ssim == pytest.approx(np.mean([metrics.ssim(*pair) for pair in pairs]))
    assert result.score.gain_db == 0
    assert counted == [(done, 5) for done in range(1, 6)]
    assert list(result.sequences) == [sequence.name]
    assert np.array_equal(result.example.sharp, sequence.read_sharp(sequence.num_frames // 2))


def test_zeroed_spikes_are_zero_and_real_ones_are_not(held_out):
    real = held_out.validate(Echo(), precision=PRECISION)
    assert real.score.psnr_db != real.score.psnr_db_blurry


def test_every_frame_comes_once_and_the_mode_of_the_network_is_kept(held_out):
    model = Echo().train()
    batches = [[0], [1], [2]]
    loader = [held_out.clips[i] for i in range(3)]
    loader = [LoadedBatch(type(c)(*(t.unsqueeze(0) for t in c)), 0.0) for c in loader]
    frames = [
        pair.frame for pair in restore_frames(model, held_out.clips, loader, batches, precision=PRECISION)
    ]
    assert frames == [0, 1, 2, 3, 4]
    assert model.training


def test_restored_values_are_rounded_and_clamped(held_out):
    class Constant(Echo):
        def forward(self, blurry, spikes):
            return torch.full_like(blurry, 100.6 / 255).index_fill_(2, torch.tensor([0]), 1.7)

    result = held_out.validate(Constant(), precision=PRECISION)
    assert np.unique(result.example.restored[..., 0]).tolist() == [255]
    assert np.unique(result.example.restored[..., 1]).tolist() == [101]
