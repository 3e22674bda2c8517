"""The two kinds of block that the light networks are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a ReLU, added to the input: (N, C, H, W) -> (N, C, H, W).

    He et al., arXiv:1512.03385, fig. 2, without batch normalisation, which hurts restoration (Lim et al.,
    arXiv:1707.02921, sec. 3.1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined features."""
        return x + self.second(F.relu(self.first(x)))


class ConvNeXtBlock(nn.Module):
    """A 7x7 depth-wise convolution, LayerNorm over channels and a wide MLP: (N, C, H, W) -> (N, C, H, W).

    Liu et al., arXiv:2201.03545, fig. 4, with its layer scale starting at 0.1 rather than 1e-6: the network
    here is shallow, and a block that starts as the identity learns too late.
    """

    def __init__(self, channels: int, *, expansion: int = 4) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, expansion * channels)
        self.project = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined features."""
        tokens = self.depthwise(x).permute(0, 2, 3, 1)  # (N, H, W, C)
        tokens = self.project(F.gelu(self.expand(self.norm(tokens))))
        return x + (self.scale * tokens).permute(0, 3, 1, 2)


class TemporalMix(nn.Module):
    """Each frame takes in its two neighbours through one linear layer: (B, T, C, H, W) -> the same.

    The first and the last frame stand in for the neighbour that they lack.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed features, added to the input."""
        before = torch.cat([x[:, :1], x[:, :-1]], dim=1)
        after = torch.cat([x[:, 1:], x[:, -1:]], dim=1)
        triples = torch.cat([before, x, after], dim=2)  # (B, T, 3C, H, W)
        return x + self.mix(triples.flatten(0, 1)).unflatten(0, x.shape[:2])
