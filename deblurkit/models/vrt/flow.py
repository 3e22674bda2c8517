"""Optical flow between the frames of a clip: SpyNet, and flows over more than one frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblurkit.models.vrt.constants import once_per_shape
from deblurkit.models.vrt.warping import warp

LEVELS = 6
SCALES = (1, 2, 4, 8)
SMALLEST_SIDE = 33  # at 32 px and below the coarsest level would start from no pixel
_CHANNELS = (8, 32, 64, 32, 16, 2)


@dataclass(frozen=True)
class ClipFlows:
    """Flows of a clip of D frames at one scale.

    Attributes:
        backward: for n = 1, 2, ... frames, (B, D - n, 2, h, w): from frame t to frame t + n.
        forward: the same from frame t + n to frame t.
    """

    backward: list[Tensor]
    forward: list[Tensor]


class FlowLevel(nn.Module):
    """One level of SpyNet: five 7x7 convolutions from (P, 8, H, W) to a flow (P, 2, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip(_CHANNELS, _CHANNELS[1:], strict=False):
            layers += [nn.Conv2d(before, after, 7, padding=3), nn.ReLU()]
        self.basic_module = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual flow."""
        return self.basic_module(x)


class SpyNet(nn.Module):
    """Coarse-to-fine optical flow, Ranjan and Black, arXiv:1611.00850, in float32 whatever the autocast."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.basic_module = nn.ModuleList([FlowLevel() for _ in range(LEVELS)])

    def forward(self, ref: Tensor, supp: Tensor) -> list[Tensor]:
        """Return the flow from ``ref`` to ``supp``, both (P, 3, H, W) in [0, 1], at SCALES.

        Returns:
            (P, 2, H // s, W // s) in pixels of that scale.
        """
        height, width = ref.shape[-2:]
        padded = -(-height // 32) * 32, -(-width // 32) * 32
        flows = self._pyramid_flows(self._pyramid(ref, padded), self._pyramid(supp, padded))
        return [
            _resized(flow, (height // scale, width // scale))
            for scale, flow in zip(SCALES, reversed(flows), strict=False)
        ]

    def _pyramid(self, frames: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """Return the normalised frames at LEVELS sizes, coarsest first."""
        frames = F.interpolate(frames, size, mode="bilinear", align_corners=False)
        levels = [(frames - self.mean) / self.std]
        for _ in range(LEVELS - 1):
            levels.append(F.avg_pool2d(levels[-1], 2))
        return levels[::-1]

    def _pyramid_flows(self, refs: list[Tensor], supps: list[Tensor]) -> list[Tensor]:
        """Return the flows of the levels, coarsest first."""
        count, _, height, width = refs[0].shape
        flow = refs[0].new_zeros(count, 2, height // 2, width // 2)
        flows = []
        for ref, supp, level in zip(refs, supps, self.basic_module, strict=True):
            up = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            bottom, right = ref.shape[2] - up.shape[2], ref.shape[3] - up.shape[3]
            if bottom or right:
                up = F.pad(up, (0, right, 0, bottom), mode="replicate")
            flow = up + level(torch.cat([ref, warp(supp, up, padding="border"), up], dim=1))
            flows.append(flow)
        return flows


def _resized(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a flow (P, 2, h, w) resized, its vectors in the new pixels."""
    height, width = flow.shape[-2:]
    resized = F.interpolate(flow, size, mode="bilinear", align_corners=False)
    return resized * _stretch((height, width), size, device=flow.device, dtype=flow.dtype)


@once_per_shape
def _stretch(
    before: tuple[int, int], after: tuple[int, int], *, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return by what a vector grows with the frame, (2, 1, 1), x first."""
    factors = [after[1] / before[1], after[0] / before[0]]
    return torch.tensor(factors, device=device, dtype=dtype).view(2, 1, 1)


def clip_flows(spynet: nn.Module, clip: Tensor, *, reach: int) -> list[ClipFlows]:
    """Return the flows of a clip (B, D, 3, H, W) at SCALES, over 1 to ``reach`` frames.

    All pairs of both directions go through ``spynet`` in one batch.
    """
    batch, depth = clip.shape[:2]
    earlier, later = clip[:, :-1].flatten(0, 1), clip[:, 1:].flatten(0, 1)
    pairs = spynet(torch.cat([earlier, later]), torch.cat([later, earlier]))
    result = []
    for both in pairs:
        backward, forward = both.unflatten(0, (2, batch, depth - 1)).unbind(0)
        result.append(ClipFlows(*_further(backward, forward, reach=reach)))
    return result


def _further(backward: Tensor, forward: Tensor, *, reach: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the flows over 1 to ``reach`` frames: each adds the next flow, fetched where the last ends."""
    backwards, forwards = [backward], [forward]
    for step in range(1, reach):
        last, count = backwards[-1][:, :-1], max(0, backward.shape[1] - step)
        backwards.append(last + _fetched(backward[:, step : step + count], last))
        last = forwards[-1][:, 1:]
        forwards.append(last + _fetched(forward[:, :count], last))
    return backwards, forwards


def _fetched(field: Tensor, at: Tensor) -> Tensor:
    if at.shape[1] == 0:
        return at
    return warp(field.flatten(0, 1), at.flatten(0, 1)).unflatten(0, at.shape[:2])
