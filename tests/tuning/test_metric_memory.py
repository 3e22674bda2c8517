"""Told from shapes, against the tracker that follows real tensors, and against a count by hand."""

import pytest
import torch

from deblurkit.memory.tensors import StorageTracker
from deblurkit.training.perceptual import untrained_lpips
from deblurkit.tuning.metric_memory import lpips_memory

# AlexNet's five convolutions with their biases, five heads, and mean and deviation of three channels.
ALEX = [(64, 3 * 11**2), (192, 64 * 5**2), (384, 192 * 3**2), (256, 384 * 3**2), (256, 256 * 3**2)]
VALUES = sum(out * taken + out for out, taken in ALEX) + (64 + 192 + 384 + 256 + 256) + 2 * 3


def test_weights_are_those_of_the_layers():
    found = lpips_memory("alex", (64, 64))
    tensors = 2 * 5 + 5 + 2
    assert 4 * VALUES <= found.weights < 4 * VALUES + 512 * tensors


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_most_is_what_real_tensors_take(net):
    distance = untrained_lpips(net, torch.device("cpu"))
    tracker = StorageTracker([*distance.parameters(), *distance.buffers()])
    with torch.no_grad(), tracker:
        distance(torch.zeros(1, 3, 48, 64), torch.zeros(1, 3, 48, 64))
    found = lpips_memory(net, (48, 64))
    assert found.peak == pytest.approx(tracker.take_peak().peak_bytes, rel=0.03)
    assert found.peak > found.weights
