"""The transformer blocks of VRT, on tokens that stay channels-last."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deblurkit.models.vrt.attention import WindowAttention
from deblurkit.models.vrt.kernels import gated_mlp
from deblurkit.models.vrt.windows import Triple, window_layout


class GatedMlp(nn.Module):
    """fc2(GELU(fc11(x)) * fc12(x)) over the last axis (GEGLU, Shazeer, arXiv:2002.05202)."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc11 = nn.Linear(dim, hidden)
        self.fc12 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., dim) -> (..., out); both projections are one matrix product."""
        weights = torch.stack([self.fc11.weight, self.fc12.weight])
        biases = torch.stack([self.fc11.bias, self.fc12.bias])
        fed = gated_mlp(x.flatten(0, -2), weights, biases, self.fc2.weight, self.fc2.bias)
        return fed.unflatten(0, x.shape[:-1])


class DropPath(nn.Module):
    """Leaves out a residual branch for whole clips while training (Huang et al., arXiv:1603.09382)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, ...) with each clip kept, and scaled up, at probability 1 - rate."""
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep).div_(keep)


class Block(nn.Module):
    """Window attention and a gated MLP, each after a LayerNorm and added to its input.

    B clips, D frames, H x W tokens, C channels.

    Args:
        dim: C.
        window: of the attention, in tokens.
        num_heads: of the attention.
        mutual: with attention between two frames beside that in the window.
        shifted: shift the windows by half of their size.
        drop_path: probability at which a clip skips a branch while training.
        checkpoint_attention, checkpoint_mlp: make that branch again in the backward pass.
    """

    def __init__(
        self,
        dim: int,
        *,
        window: Triple,
        num_heads: int,
        mutual: bool,
        shifted: bool,
        drop_path: float,
        checkpoint_attention: bool,
        checkpoint_mlp: bool,
    ) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.checkpoint_attention, self.checkpoint_mlp = checkpoint_attention, checkpoint_mlp
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window=window, num_heads=num_heads, mutual=mutual)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = GatedMlp(dim, 2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D, H, W, C) refined."""
        recompute = self.training and torch.is_grad_enabled()
        attend = self._attention_again if recompute and self.checkpoint_attention else self._attention
        x = x + self.drop_path(attend(x))
        feed = self._mlp_again if recompute and self.checkpoint_mlp else self._mlp
        return x + self.drop_path(feed(x))

    def _attention_again(self, x: Tensor) -> Tensor:
        return recomputed(self._attention, x)

    def _mlp_again(self, x: Tensor) -> Tensor:
        return recomputed(self._mlp, x)

    def _attention(self, x: Tensor) -> Tensor:
        batch, depth, height, width, _ = x.shape
        layout = window_layout(
            batch, (depth, height, width), self.window, shifted=self.shifted, device=x.device
        )
        tokens: Tensor = self.attn(self.norm1(x).flatten(0, 3), layout)
        return tokens.view(x.shape)

    def _mlp(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm2(x))


def recomputed(branch: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Run ``branch``, which draws no random numbers, and keep its inputs only."""
    result: Tensor = checkpoint(branch, *inputs, use_reentrant=False, preserve_rng_state=False)
    return result


class BlockGroup(nn.Module):
    """A row of blocks, every second one with shifted windows: (B, D, H, W, C) -> the same."""

    def __init__(
        self,
        dim: int,
        *,
        window: Triple,
        num_heads: int,
        mutual: bool,
        drop_paths: list[float],
        checkpoint_attention: bool,
        checkpoint_mlp: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                Block(
                    dim,
                    window=window,
                    num_heads=num_heads,
                    mutual=mutual,
                    shifted=i % 2 == 1,
                    drop_path=rate,
                    checkpoint_attention=checkpoint_attention,
                    checkpoint_mlp=checkpoint_mlp,
                )
                for i, rate in enumerate(drop_paths)
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined tokens."""
        for block in self.blocks:
            x = block(x)
        return x
