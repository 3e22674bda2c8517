"""Sampling features where a flow points. Flows are in pixels, x first: (P, 2, H, W) for P frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurkit.models.vrt.constants import once_per_shape


@once_per_shape
def pixel_grid(height: int, width: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the position of every pixel, (2, height, width), x first."""
    rows = torch.arange(height, device=device, dtype=dtype)
    columns = torch.arange(width, device=device, dtype=dtype)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y])


def displaced(flow: Tensor) -> Tensor:
    """Return where each pixel is sampled, (P, 2, H, W) in pixels, x first."""
    return flow + pixel_grid(*flow.shape[-2:], device=flow.device, dtype=flow.dtype)


@once_per_shape
def pixel_scale(height: int, width: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return what turns pixels into the -1 to 1 of `grid_sample` with aligned corners, (2, 1, 1), x first."""
    factors = [2 / max(width - 1, 1), 2 / max(height - 1, 1)]
    return torch.tensor(factors, device=device, dtype=dtype).view(2, 1, 1)


def warp(x: Tensor, flow: Tensor, *, padding: str = "zeros") -> Tensor:
    """Sample (P, C, H, W) bilinearly where ``flow`` (P, 2, H, W) points; outside is zero or the border."""
    height, width = flow.shape[-2:]
    scale = pixel_scale(height, width, device=flow.device, dtype=flow.dtype)
    grid = (displaced(flow) * scale - 1).permute(0, 2, 3, 1)  # (P, H, W, 2)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=True)


def warp_nearest4(x: Tensor, flow: Tensor) -> Tensor:
    """Return the four pixels around each displaced position: (P, C, H, W) -> (P, 4C, H, W), zero outside.

    In the order (floor x, floor y), (floor x, ceil y), (ceil x, floor y), (ceil x, ceil y).
    """
    height, width = x.shape[-2:]
    # Far outside is just outside: a position stays in the range of integers, whatever the flow.
    column, row = displaced(flow).flatten(2).unbind(1)  # (P, H * W)
    columns = [side.clamp(-1, width).nan_to_num() for side in (column.floor(), column.ceil())]
    rows = [side.clamp(-1, height).nan_to_num() for side in (row.floor(), row.ceil())]
    pixels = x.flatten(2)  # (P, C, H * W)
    corners = [_pick(pixels, at_column, at_row, width=width) for at_column in columns for at_row in rows]
    return torch.cat(corners, dim=1).unflatten(2, (height, width))


def _pick(pixels: Tensor, column: Tensor, row: Tensor, *, width: int) -> Tensor:
    """Return (P, C, M) pixels at whole positions (P, M), zero outside."""
    count = pixels.shape[2]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < count // width)
    index = (row.long() * width + column.long()).clamp(0, count - 1)
    picked = pixels.gather(2, index[:, None].expand(-1, pixels.shape[1], -1))
    return picked * inside[:, None].to(pixels.dtype)
