"""The spike branch: voxels encoded at VRT's four scales, refined over time, and attended to by the frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deblurkit.models.vrt.half import in_float32, safe_over_time

Tile = tuple[slice, slice]


@dataclass(frozen=True)
class ChunkPlan:
    """How many tokens attention over time takes at once; the result is the same for every plan.

    Attributes:
        adaptive: take as many positions as ``max_tokens`` allow, and otherwise tiles of ``size``.
        max_tokens: bound on the tokens of a chunk (positions x frames x clips).
        size: side of a tile [feature pixels].
        shape: ``square`` tiles, or ``row``: strips of whole rows with as many positions.
    """

    adaptive: bool = True
    max_tokens: int = 49152
    size: int = 64
    shape: Literal["square", "row"] = "square"

    def tiles(self, height: int, width: int, *, tokens_per_position: int) -> list[Tile]:
        """Return tiles that cover height x width, each within the bound where a single position is."""
        allowed = max(1, self.max_tokens // tokens_per_position)
        if height * width <= allowed:
            return [(slice(0, height), slice(0, width))]
        wanted = allowed if self.adaptive else min(self.size**2, allowed)
        rows, columns = _tile_shape(wanted, height, width, square=self.shape == "square")
        return [
            (slice(top, min(top + rows, height)), slice(left, min(left + columns, width)))
            for top in range(0, height, rows)
            for left in range(0, width, columns)
        ]


def _tile_shape(wanted: int, height: int, width: int, *, square: bool) -> tuple[int, int]:
    """Return rows and columns of at most ``wanted`` positions."""
    if square:
        side = max(1, int(wanted**0.5))
        columns = min(width, side)
    else:
        columns = min(width, wanted)
    return min(height, max(1, wanted // columns)), columns


def over_tiles(
    function: Callable[..., Tensor], maps: Sequence[Tensor], plan: ChunkPlan, *, recompute: bool
) -> Tensor:
    """Apply ``function``, which works at each position by itself, to maps (B, D, H, W, C) tile by tile.

    Args:
        function: maps of a tile -> (B, D, h, w, C).
        maps: of one height and width.
        plan: how large the tiles are; one tile costs no loop.
        recompute: keep only the inputs of each tile for the backward pass, so that the bound holds there too.
    """
    batch, depth, height, width, _ = maps[0].shape
    tiles = plan.tiles(height, width, tokens_per_position=batch * depth)
    if len(tiles) == 1:
        return function(*maps)
    recompute = recompute and torch.is_grad_enabled()
    parts = []
    for rows, columns in tiles:
        cut = [each[:, :, rows, columns] for each in maps]
        if recompute:
            part = checkpoint(function, *cut, use_reentrant=False, preserve_rng_state=False)
        else:
            part = function(*cut)
        parts.append(part)
    per_row = sum(1 for rows, _ in tiles if rows.start == 0)
    strips = [torch.cat(parts[i : i + per_row], dim=3) for i in range(0, len(parts), per_row)]
    return torch.cat(strips, dim=2)


def _as_sequences(x: Tensor, heads: int) -> Tensor:
    """Return each position's frames as a sequence: (B, D, H, W, C) -> (B * H * W, heads, D, C / heads)."""
    batch, depth, height, width, _ = x.shape
    x = x.permute(0, 2, 3, 1, 4).reshape(batch * height * width, depth, heads, -1)
    return x.transpose(1, 2)


def _as_map(x: Tensor, shape: torch.Size) -> Tensor:
    """Undo `_as_sequences` for a map of ``shape``."""
    batch, depth, height, width, _ = shape
    x = x.transpose(1, 2).reshape(batch, height, width, depth, -1)
    return x.permute(0, 3, 1, 2, 4)


class TimeConv3d(nn.Conv3d):
    """A convolution over time, and over the plane where its kernel is larger: (B, C, T, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, with right gradients of the weights too."""
        with safe_over_time(x):
            is_cast = torch.is_autocast_enabled(x.device.type)
            return super().forward(x if is_cast else x.to(self.weight.dtype))


class ResidualConv3d(nn.Module):
    """A 3x3 convolution over the plane and one of 3 over time, around a GELU: (B, C, T, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.plane = nn.Conv3d(channels, channels, (1, 3, 3), padding=(0, 1, 1))
        self.time = TimeConv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined features."""
        return x + self.time(F.gelu(self.plane(x)))


class SpikeEncoder3D(nn.Module):
    """Spike voxels as features at the scales of VRT's first stages.

    B clips, T frames, K bins, h x w spike pixels, H x W pixels of the frames.

    Args:
        num_voxel_bins: K.
        channels: of each scale, finest first; every scale has half the size of the one before.
    """

    def __init__(self, num_voxel_bins: int, *, channels: Sequence[int]) -> None:
        super().__init__()
        self.embed = TimeConv3d(num_voxel_bins, channels[0], 3, padding=1)
        self.downs = nn.ModuleList(
            [
                nn.Conv3d(before, after, (1, 2, 2), stride=(1, 2, 2))
                for before, after in zip(channels, channels[1:], strict=False)
            ]
        )
        self.blocks = nn.ModuleList([ResidualConv3d(width) for width in channels])

    def forward(
        self, voxels: Tensor, *, frame_size: tuple[int, int], covered: tuple[int, int]
    ) -> list[Tensor]:
        """Return the features of every scale s, (B, T, H / s, W / s, C).

        Args:
            voxels: (B, T, K, h, w), of any h and w; they see ``covered`` of the frame.
            frame_size: H, W, multiples of the coarsest scale.
            covered: rows and columns of the frame, from the top left, that the spike camera saw; beyond them
                its border is repeated.
        """
        x = self.embed(
            torch.log1p(voxels.to(self.embed.weight.dtype).clamp(min=0)).transpose(1, 2)
        )  # (B, C, T, h, w)
        x = _resized(x, covered)
        bottom, right = frame_size[0] - covered[0], frame_size[1] - covered[1]
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom, 0, 0), mode="replicate")
        features = []
        for scale, block in enumerate(self.blocks):
            x = block(self.downs[scale - 1](x) if scale else x)
            features.append(x.permute(0, 2, 3, 4, 1))
        return features


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (B, C, T, h, w) at another height and width, bilinearly, smoothed where it shrinks."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    shrinks = x.shape[-2] > size[0] or x.shape[-1] > size[1]
    batch, channels = x.shape[:2]
    with in_float32(x.device):
        planes = F.interpolate(
            x.flatten(0, 1).to(torch.promote_types(x.dtype, torch.float32)),  # not everywhere in 16 bits
            list(size),
            mode="bilinear",
            align_corners=False,
            antialias=shrinks,
        )
    return planes.unflatten(0, (batch, channels))


class SpikeTemporalSA(nn.Module):
    """Self-attention over time at every position of one scale, and an MLP: (B, T, H, W, C) -> the same.

    Args:
        dim: C.
        num_heads: a divisor of C.
        plan: how many tokens at once.
        recompute: make the chunks again in the backward pass.
    """

    def __init__(self, dim: int, *, num_heads: int, plan: ChunkPlan, recompute: bool) -> None:
        super().__init__()
        self.num_heads, self.plan, self.recompute = num_heads, plan, recompute
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined features."""
        return over_tiles(self._refined, [x], self.plan, recompute=self.recompute)

    def _refined(self, x: Tensor) -> Tensor:
        query, key, value = (
            _as_sequences(part, self.num_heads) for part in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        seen = _as_map(F.scaled_dot_product_attention(query, key, value), x.shape)
        x = x + self.proj(seen)
        return x + self.mlp(self.norm2(x))


class TemporalCrossAttn(nn.Module):
    """Frame tokens attend to the spike tokens of the same position at all times.

    What is added starts at zero, so that a network with spikes starts as the one without.

    Args:
        dim: channels C of the frame tokens.
        spike_dim: channels S of the spike tokens, in which attention takes place.
        num_heads: a divisor of S.
        plan: how many tokens at once.
        recompute: make the chunks again in the backward pass.
    """

    def __init__(self, dim: int, *, spike_dim: int, num_heads: int, plan: ChunkPlan, recompute: bool) -> None:
        super().__init__()
        self.num_heads, self.plan, self.recompute = num_heads, plan, recompute
        self.norm_frames, self.norm_spikes = nn.LayerNorm(dim), nn.LayerNorm(spike_dim)
        self.query = nn.Linear(dim, spike_dim)
        self.key_value = nn.Linear(spike_dim, 2 * spike_dim)
        self.proj = nn.Linear(spike_dim, dim)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, frames: Tensor, spikes: Tensor) -> Tensor:
        """Return the frame tokens with what they see: (B, D, H, W, C), (B, D, H, W, S) -> (B, D, H, W, C)."""
        return over_tiles(self._fused, [frames, spikes], self.plan, recompute=self.recompute)

    def _fused(self, frames: Tensor, spikes: Tensor) -> Tensor:
        key, value = self.key_value(self.norm_spikes(spikes)).chunk(2, dim=-1)
        query, key, value = (
            _as_sequences(part, self.num_heads) for part in (self.query(self.norm_frames(frames)), key, value)
        )
        seen = F.scaled_dot_product_attention(query, key, value)
        return frames + self.proj(_as_map(seen, frames.shape))
