import pytest
import torch

from deblurkit.models.blocks import ConvNeXtBlock, ResidualBlock, TemporalMix


@pytest.mark.parametrize("block", [ResidualBlock, ConvNeXtBlock])
def test_blocks_keep_the_shape_and_pass_gradients_to_every_parameter(block):
    torch.manual_seed(0)
    layer = block(8)
    out = layer(torch.randn(2, 8, 6, 10))
    assert out.shape == (2, 8, 6, 10)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_the_convnext_norm_is_over_channels_alone():
    """Moving one pixel far away changes no other pixel's norm: only its own 7x7 neighbourhood."""
    torch.manual_seed(0)
    layer, x = ConvNeXtBlock(4), torch.randn(1, 4, 20, 20)
    moved = x.clone()
    moved[..., 0, 0] += 100
    difference = (layer(moved) - layer(x)).abs().sum(1)[0]
    assert difference[0, 0] > 0 and difference[4:, 4:].max() == 0


def test_temporal_mix_reaches_one_frame_to_each_side():
    torch.manual_seed(0)
    layer, x = TemporalMix(4), torch.randn(1, 5, 4, 3, 3)
    moved = x.clone()
    moved[:, 2] += 1
    changed = (layer(moved) - layer(x)).abs().sum((0, 2, 3, 4)) > 1e-6
    assert changed.tolist() == [False, True, True, True, False]
