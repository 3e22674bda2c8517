"""The stages of VRT: seven that attend and align at their scale, and groups at the finest."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from deblurkit.models.vrt.alignment import FlowGuidedAlignment
from deblurkit.models.vrt.blocks import BlockGroup, GatedMlp, recomputed
from deblurkit.models.vrt.flow import ClipFlows
from deblurkit.models.vrt.windows import Triple

Entry = Literal["same", "down", "up"]

MUTUAL_SHARE = 0.75  # of a stage's blocks have mutual attention


def space_to_depth(x: Tensor) -> Tensor:
    """Put 2x2 tokens into one: (B, D, H, W, C) -> (B, D, H/2, W/2, 4C), column, row, channel."""
    x = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (B, D, H/2, row, W/2, column, C)
    return x.permute(0, 1, 2, 4, 5, 3, 6).flatten(4)


def depth_to_space(x: Tensor) -> Tensor:
    """Undo `space_to_depth`: (B, D, H, W, 4C) -> (B, D, 2H, 2W, C)."""
    x = x.unflatten(4, (2, 2, -1))  # (B, D, H, W, column, row, C)
    return x.permute(0, 1, 2, 5, 3, 4, 6).flatten(4, 5).flatten(2, 3)


class Stage(nn.Module):
    """One of the stages 1 to 7: change of scale, mutual and self attention, parallel warping.

    B clips, D frames, H x W tokens, C channels.

    Args:
        entry: how the stage takes in what the one before gives: at its scale, or half or twice of it.
        dim_in: channels of the stage before.
        dim: C.
        window: of self attention, in tokens; mutual attention takes windows of two frames.
        num_heads: of attention.
        drop_paths: rate of each block; three quarters of them have mutual attention.
        neighbours: frames on each side that are aligned.
        deformable_groups: of the alignment.
        radius: largest offset of the alignment [pixels of this scale].
        checkpoint_attention, checkpoint_mlp: recompute these in the backward pass.
    """

    def __init__(
        self,
        entry: Entry,
        *,
        dim_in: int,
        dim: int,
        window: Triple,
        num_heads: int,
        drop_paths: list[float],
        neighbours: int,
        deformable_groups: int,
        radius: float,
        checkpoint_attention: bool,
        checkpoint_mlp: bool,
    ) -> None:
        super().__init__()
        self.entry, self.checkpoint_mlp = entry, checkpoint_mlp
        self.reshape = _entry_layers(entry, dim_in=dim_in, dim=dim)
        mutual = int(MUTUAL_SHARE * len(drop_paths))
        self.residual_group1 = BlockGroup(
            dim,
            window=(2, window[1], window[2]),
            num_heads=num_heads,
            mutual=True,
            drop_paths=drop_paths[:mutual],
            checkpoint_attention=checkpoint_attention,
            checkpoint_mlp=checkpoint_mlp,
        )
        self.linear1 = nn.Linear(dim, dim)
        self.residual_group2 = BlockGroup(
            dim,
            window=window,
            num_heads=num_heads,
            mutual=False,
            drop_paths=drop_paths[mutual:],
            checkpoint_attention=checkpoint_attention,
            checkpoint_mlp=checkpoint_mlp,
        )
        self.linear2 = nn.Linear(dim, dim)
        self.pa_deform = FlowGuidedAlignment(
            dim, neighbours=neighbours, groups=deformable_groups, radius=radius
        )
        self.pa_fuse = GatedMlp(3 * dim, 3 * dim, dim)

    def forward(self, x: Tensor, flows: ClipFlows) -> Tensor:
        """Return (B, D, H, W, C) from the stage before's tokens, guided by the flows of this scale."""
        if self.entry == "down":
            x = space_to_depth(x)
        elif self.entry == "up":
            x = depth_to_space(x)
        x = self.reshape(x)
        x = x + self.linear1(self.residual_group1(x))
        x = x + self.linear2(self.residual_group2(x))
        frames = x, *self.pa_deform(x, flows)
        if self.checkpoint_mlp and self.training and torch.is_grad_enabled():
            return recomputed(self._fused, *frames)
        return self._fused(*frames)

    def _fused(self, x: Tensor, after: Tensor, before: Tensor) -> Tensor:
        merged: Tensor = self.pa_fuse(torch.cat([x, after.to(x.dtype), before.to(x.dtype)], dim=-1))
        return merged


def _entry_layers(entry: Entry, *, dim_in: int, dim: int) -> nn.Sequential:
    """Return LayerNorm and, at a change of scale, a Linear; child 0 is where the published one reshapes."""
    if entry == "same":
        return nn.Sequential(nn.Identity(), nn.LayerNorm(dim_in))
    width = dim_in * 4 if entry == "down" else dim_in // 4
    return nn.Sequential(nn.Identity(), nn.LayerNorm(width), nn.Linear(width, dim))


class ReconstructionGroup(nn.Module):
    """A group of stage 8: self attention blocks and a Linear, added to the input (B, D, H, W, C)."""

    def __init__(
        self,
        dim: int,
        *,
        window: Triple,
        num_heads: int,
        drop_paths: list[float],
        checkpoint_attention: bool,
        checkpoint_mlp: bool,
    ) -> None:
        super().__init__()
        self.residual_group = BlockGroup(
            dim,
            window=window,
            num_heads=num_heads,
            mutual=False,
            drop_paths=drop_paths,
            checkpoint_attention=checkpoint_attention,
            checkpoint_mlp=checkpoint_mlp,
        )
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined tokens."""
        return x + self.linear(self.residual_group(x))
