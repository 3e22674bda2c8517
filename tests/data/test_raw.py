import numpy as np
import pytest
import torch

from deblurkit.data.raw import RawClip, View, as_clip, as_clips, stack_raw
from deblurkit.data.reconstruct import voxels


def raw_clip(seed=0, *, frames=2, spike_frames=10, side=12, first_bit=3, **turns):
    """A raw clip of random bits, and the same bits as pixels (T, S, h, w)."""
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (2, frames, 2 * side, 2 * side, 3), dtype=np.uint8))
    bits = rng.integers(0, 2, (frames, spike_frames, side, 24), dtype=np.uint8)
    packed = torch.from_numpy(np.packbits(bits, axis=-1, bitorder="little"))
    view = torch.tensor(View(spike_frames, side, first_bit, **turns))
    return RawClip(images[0], packed, images[1], view), bits[..., first_bit : first_bit + side]


@pytest.mark.parametrize("bins", [1, 4, 7, 10, 16])
@pytest.mark.parametrize("first_bit", [0, 3, 7])
def test_a_clip_has_channels_first_and_the_voxels_of_its_bits(bins, first_bit):
    """`voxels` of the pixels, one exposure at a time."""
    raw, bits = raw_clip(first_bit=first_bit)
    clip = as_clip(raw, bins)
    assert torch.equal(clip.blurry, raw.blurry.permute(0, 3, 1, 2))
    assert torch.equal(clip.sharp, raw.sharp.permute(0, 3, 1, 2))
    assert np.array_equal(clip.spikes, np.stack([voxels(exposure, bins) for exposure in bits]))


def test_a_batch_holds_each_of_its_clips():
    turns = [{}, {"mirrored": 1, "backwards": 1}, {"transposed": 1, "upside_down": 1}]
    clips = [raw_clip(seed, spike_frames=10 + seed, **turn)[0] for seed, turn in enumerate(turns)]
    together = as_clips(stack_raw(clips), 5)
    for number, raw in enumerate(clips):
        for mine, other in zip(as_clip(raw, 5), together, strict=True):
            assert torch.equal(mine, other[number]) and other.is_contiguous()


@pytest.mark.gpu
def test_a_gpu_makes_the_same_voxels_bit_for_bit():
    raw = stack_raw([raw_clip(seed, spike_frames=104)[0] for seed in range(3)])
    there = RawClip(raw.blurry.cuda(), raw.spikes.cuda(), raw.sharp.cuda(), raw.view)
    torch.set_float32_matmul_precision("high")
    try:
        made = as_clips(there, 32)
    finally:
        torch.set_float32_matmul_precision("highest")
    for mine, other in zip(as_clips(raw, 32), made, strict=True):
        assert torch.equal(mine, other.cpu())
