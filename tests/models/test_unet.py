import pytest
import torch

from deblurkit.models.blocks import ResidualBlock
from deblurkit.models.unet import ClipUNet


def network(bins=4):
    torch.manual_seed(0)
    return ClipUNet(block=ResidualBlock, base_channels=4, num_blocks=1, num_voxel_bins=bins)


def test_an_untrained_network_returns_the_blurry_clip():
    blurry = torch.rand(2, 3, 3, 32, 40)
    assert torch.equal(network()(blurry, torch.rand(2, 3, 4, 16, 20)), blurry)


@pytest.mark.parametrize("size", [(32, 32), (45, 61), (20, 34)])
@pytest.mark.parametrize("spike_size", [(16, 16), (9, 30)])
def test_any_frame_size_and_any_spike_size_will_do(size, spike_size):
    out = network()(torch.rand(1, 2, 3, *size), torch.rand(1, 2, 4, *spike_size))
    assert out.shape == (1, 2, 3, *size)


def test_after_two_steps_every_parameter_has_had_a_gradient():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        out = model(torch.rand(1, 3, 3, 32, 32), torch.rand(1, 3, 4, 16, 16))
        (out - 0.5).square().mean().backward()
        optimizer.step()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_spikes_must_be_there_exactly_where_the_network_takes_them():
    with pytest.raises(ValueError, match="takes 4 voxel bins, and got none"):
        network()(torch.rand(1, 2, 3, 32, 32))
    with pytest.raises(ValueError, match="takes no spikes, and got spikes"):
        network(bins=0)(torch.rand(1, 2, 3, 32, 32), torch.rand(1, 2, 4, 16, 16))


@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_spikes_lie_where_the_frames_do_when_the_frames_are_padded(ratio):
    """With 52 rows (no multiple of 8) a spike in the last row answers in the last rows, not beyond them."""
    model = network()
    spikes = torch.zeros(1, 1, 4, 52 // ratio, 40 // ratio)
    lit = spikes.clone()
    lit[..., -1, :] = 1
    sizes = {"covered": (26, 20), "size": (28, 20)}
    change = model._spike_features(lit, **sizes) - model._spike_features(spikes, **sizes)
    answer = change.abs().sum((0, 1, 3))
    assert answer[25] > 0 and torch.allclose(answer[26:], answer[25])  # the padding repeats the last real row
    assert answer[: 25 - 3 * max(1, ratio // 2) - 2].max() == 0
