"""What measuring LPIPS on whole frames takes where it is done on a CPU, told from shapes alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from deblurkit.memory.tensors import StorageTracker
from deblurkit.training.perceptual import LpipsNet, untrained_lpips


class MetricMemory(NamedTuple):
    """Bytes of a network that measures: of its weights, and the most with all that it makes of two frames."""

    weights: int
    peak: int


def lpips_memory(net: LpipsNet, frame_shape: tuple[int, int]) -> MetricMemory:
    """Return what LPIPS takes for a pair of frames.

    Args:
        net: whose features are compared.
        frame_shape: rows and columns.
    """
    device = torch.device("cpu")
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        distance = untrained_lpips(net, device)
        tracker = StorageTracker([*distance.parameters(), *distance.buffers()], fake=mode)
        weights = tracker.held
        with tracker:
            restored, sharp = (torch.empty(1, 3, *frame_shape, device=device) for _ in range(2))
            distance(restored, sharp)
        return MetricMemory(weights, tracker.take_peak().peak_bytes)
