import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import deform_conv2d

from deblurkit.models.blocks import ResidualBlock
from deblurkit.models.flops import count_flops, model_flops, module_flops, tmac
from deblurkit.models.unet import ClipUNet
from deblurkit.models.vrt.kernels import biased_attention, mutual_attention
from deblurkit.models.vrt.network import VRT

GOPRO_TMAC = 2.51  # on a clip of 6 x 192 x 192
TINY = {
    "window_size": (2, 4, 4),
    "depths": [2] * 7 + [1, 1],
    "embed_dims": [8] * 9,
    "num_heads": [2] * 9,
    "indep_reconsts": [8],
    "deformable_groups": 2,
}


def forward_and_backward(function):
    """Count both passes and return (forward, backward)."""
    out = []
    forward = count_flops(lambda: out.append(function()))
    return forward, count_flops(lambda: out[0].sum().backward())


def test_a_multiply_add_is_two_operations():
    x, weight = torch.rand(5, 7), torch.rand(11, 7, requires_grad=True)
    assert forward_and_backward(lambda: F.linear(x, weight)) == (2 * 5 * 7 * 11, 2 * 5 * 7 * 11)
    assert tmac(2 * 10**12) == 1.0


def test_a_bilinear_sample_is_four_multiply_adds_and_each_gradient_as_many():
    x, grid = torch.rand(2, 3, 8, 8, requires_grad=True), torch.rand(2, 5, 6, 2, requires_grad=True)
    value = 2 * 4 * (2 * 3 * 5 * 6)
    sample = functools.partial(F.grid_sample, align_corners=True)
    assert forward_and_backward(lambda: sample(x, grid)) == (value, value + 2 * value)
    assert forward_and_backward(lambda: sample(x.detach(), grid)) == (value, 2 * value)
    assert count_flops(lambda: sample(x, grid, mode="nearest")) == value // 4


@pytest.mark.parametrize("frames_apart", [False, True])
def test_attention_is_two_products_forward_and_five_backward(frames_apart):
    """3 windows of 4 tokens and 2 heads of 4 channels; in mutual attention each frame of 2 sees the other."""
    qkv = torch.rand(3, 4, 3 * 8, requires_grad=True)
    mask = torch.zeros(1, 2, 2) if frames_apart else torch.zeros(1, 4, 4)
    if frames_apart:
        product = 2 * (3 * 2) * (2 * 2 * 8)
        counted = forward_and_backward(lambda: mutual_attention(qkv, mask, [0, 3], 2)[0])
    else:
        product = 2 * 3 * (4 * 4 * 8)
        bias = torch.zeros(2, 4, 4, requires_grad=True)
        counted = forward_and_backward(lambda: biased_attention(qkv, bias, mask, [0, 3], 2)[0])
    assert counted == (2 * product, 5 * product)


def test_fused_attention_of_pytorch_counts_the_same_two_products():
    query = torch.rand(3, 2, 4, 4)
    counted = count_flops(lambda: F.scaled_dot_product_attention(query, query, query))
    assert counted == 2 * 2 * 3 * 2 * 4 * 4 * 4


def test_a_deformable_convolution_is_its_samples_and_a_product():
    """Two groups of 2 channels to 3; 9 taps at each of 6 x 6 pixels."""
    x, offset = torch.rand(1, 4, 6, 6, requires_grad=True), torch.zeros(1, 18, 6, 6)
    weight = torch.rand(6, 2, 3, 3, requires_grad=True)
    samples, product = 2 * 4 * (4 * 9 * 36), 2 * (6 * 2 * 9 * 36)
    counted = forward_and_backward(lambda: deform_conv2d(x, offset, weight, padding=1))
    assert counted == (samples + product, 4 * samples + 2 * product)


def test_fake_tensors_count_what_real_ones_do_and_leave_nothing_fake_behind():
    clip = (1, 3, 3, 40, 56)  # of no other test: what it caches is made here
    fake = model_flops(lambda: VRT(**TINY), clip)
    model = VRT(**TINY).eval()
    with torch.no_grad():
        assert count_flops(lambda: model(torch.rand(clip))) == fake
        assert type(model(torch.rand(clip))) is torch.Tensor


def test_spikes_are_counted_where_the_network_takes_them():
    def network(bins):
        return ClipUNet(block=ResidualBlock, base_channels=4, num_blocks=1, num_voxel_bins=bins)

    clip, spikes = (2, 3, 3, 32, 32), (2, 3, 5, 16, 16)
    added = model_flops(lambda: network(5), clip, spikes_shape=spikes) - model_flops(lambda: network(0), clip)
    assert added == 2 * (2 * 3 * 16 * 16) * 9 * (5 * 4 + 4 * 4)  # its two 3x3 convolutions


def test_nothing_is_allocated():
    """A layer of 4 TB."""
    assert model_flops(lambda: nn.Linear(10**6, 10**6), (1, 10**6)) == 2 * 10**12


@pytest.mark.parametrize("side", [64, pytest.param(192, marks=pytest.mark.slow)])
def test_the_network_of_the_gopro_weights_costs_two_and_a_half_tmac(side):
    """All layers work window by window or pixel by pixel: a ninth of the pixels costs a ninth."""
    counted = tmac(model_flops(VRT, (1, 6, 3, side, side)))
    assert counted * (192 / side) ** 2 == pytest.approx(GOPRO_TMAC, rel=0.03)


def test_each_module_has_its_own_operations_and_the_network_all_of_them():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 11))
            self.last = nn.Linear(11, 2)

        def forward(self, x):
            return self.last(self.first(x))

    counted = module_flops(Network, (3, 5))
    first, second, last = 2 * 3 * 5 * 7, 2 * 3 * 7 * 11, 2 * 3 * 11 * 2
    assert counted == {
        "": first + second + last,
        "first": first + second,
        "first.0": first,
        "first.1": second,
        "last": last,
    }
