"""Window attention of VRT: in the window with a relative position bias, and between its two frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblurkit.models.vrt.kernels import (
    biased_attention,
    from_windows,
    mutual_attention,
    to_windows,
)
from deblurkit.models.vrt.windows import (
    Triple,
    WindowLayout,
    bias_rows,
    relative_position_index,
    sine_encoding,
)


class WindowAttention(nn.Module):
    """Attention inside windows, Liang et al., arXiv:2201.12288, sec. 3.2.

    N windows, L tokens of a window, H heads, C channels.

    Args:
        dim: C.
        window: largest window (frames, rows, columns) in tokens.
        num_heads: H, a divisor of C.
        mutual: also let the two frames of a window attend to each other.
    """

    relative_position_index: Tensor
    position_bias: Tensor

    def __init__(self, dim: int, *, window: Triple, num_heads: int, mutual: bool) -> None:
        super().__init__()
        self.window, self.num_heads, self.mutual = window, num_heads, mutual
        rows = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window))
        if mutual:
            self.register_buffer("position_bias", sine_encoding(window[1], window[2], dim))
        self.qkv_self = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(2 * dim if mutual else dim, dim)
        if mutual:
            self.qkv_mut = nn.Linear(dim, 3 * dim)

    def forward(self, tokens: Tensor, layout: WindowLayout) -> Tensor:
        """Return what the tokens see of their windows: (T, C) rows of ``layout`` -> (T, C)."""
        places = to_windows(tokens, layout.index, layout.inverse, layout.padding)
        windows = places.unflatten(0, (layout.num_windows, -1))  # (N, L, C)
        seen = self._attend_to_window(windows, layout)
        if self.mutual:
            rows = self._project_both(self._attend_to_frame(windows, layout), seen).flatten(0, 1)
        else:
            rows = self.proj(seen).flatten(0, 1)
        return from_windows(rows, layout.index, layout.inverse, layout.padding)

    def _attend_to_window(self, windows: Tensor, layout: WindowLayout) -> Tensor:
        qkv = self.qkv_self(windows)
        bias = self._bias(tokens=windows.shape[1])
        if windows.device.type == "cpu":
            return biased_attention(qkv, bias, layout.masks, list(layout.starts), self.num_heads)[0]
        return stock_biased_attention(qkv, bias, layout.masks, layout.starts, self.num_heads)

    def _attend_to_frame(self, windows: Tensor, layout: WindowLayout) -> Tensor:
        if 2 * self.position_bias.shape[1] != windows.shape[1]:
            raise ValueError(
                f"mutual attention needs windows of two frames of {self.window[1]}x{self.window[2]} tokens,"
                f" got {layout.window}"
            )
        qkv = self.qkv_mut(windows + self.position_bias.repeat(1, 2, 1))
        masks, starts = layout.frame_masks, layout.frame_starts
        if windows.device.type == "cpu":
            return mutual_attention(qkv, masks, list(starts), self.num_heads)[0]
        return stock_mutual_attention(qkv, masks, starts, self.num_heads)

    def _project_both(self, mutual: Tensor, seen: Tensor) -> Tensor:
        """Return ``proj`` of [mutual, seen] on channels, which are never put side by side."""
        of_mutual, of_seen = self.proj.weight.chunk(2, dim=1)
        return F.linear(mutual, of_mutual, self.proj.bias) + F.linear(seen, of_seen)

    def _bias(self, *, tokens: int) -> Tensor:
        """Return the relative position bias of every pair, (H, L, L)."""
        rows = bias_rows(self.window, tokens=tokens, device=self.relative_position_bias_table.device)
        pairs = F.embedding(rows, self.relative_position_bias_table)
        return (
            pairs.t().contiguous().view(self.num_heads, tokens, tokens)
        )  # the kernels would copy each window's


def stock_biased_attention(
    qkv: Tensor, bias: Tensor, masks: Tensor, starts: tuple[int, ...], heads: int
) -> Tensor:
    """Return `kernels.biased_attention`'s first result by PyTorch's own operator.

    On a GPU its memory-efficient kernel gives the bias a gradient.
    """
    parts = []
    for kind, (start, stop) in enumerate(zip(starts, starts[1:], strict=False)):
        query, key, value = qkv[start:stop].unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        shifted = (bias + masks[kind]).to(qkv.dtype).expand(stop - start, *bias.shape)
        seen = _fused(query, key, value, shifted)
        parts.append(seen.transpose(1, 2).flatten(2))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def stock_mutual_attention(qkv: Tensor, masks: Tensor, starts: tuple[int, ...], heads: int) -> Tensor:
    """Return `kernels.mutual_attention`'s first result by PyTorch's own operator."""
    parts = []
    for kind, (start, stop) in enumerate(zip(starts, starts[1:], strict=False)):
        query, key, value = (
            part.unflatten(1, (2, -1)).unflatten(-1, (heads, -1)).permute(1, 0, 3, 2, 4)
            for part in qkv[start:stop].chunk(3, dim=-1)
        )  # each (2, n, H, L / 2, e)
        mask = masks[kind].to(qkv.dtype) if masks.shape[0] > 1 else None
        seen = [_fused(query[1 - frame], key[frame], value[frame], mask) for frame in (0, 1)]
        parts.append(torch.cat(seen, dim=2).transpose(1, 2).flatten(2))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attend, (N, H, L, e), 16-bit heads widened by zeros to the whole 16 bytes that kernels want."""
    width = query.shape[-1]
    missing = -width % 8 if query.dtype.itemsize == 2 else 0
    if missing:
        query, key, value = (F.pad(part, (0, missing)) for part in (query, key, value))
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=width**-0.5)
    return seen[..., :width]
