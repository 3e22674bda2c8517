"""Attention and gated activation with backward passes of their own: the same numbers, less time and memory.

PyTorch's fused attention on a CPU gives a bias no gradient and falls back to one that keeps every attention
matrix. The operators here run the fused kernel forward and, in the backward pass, make the matrices again a
few windows at a time. They are custom operators, so that `torch.compile`, fake tensors and the FLOP counter
see one node each. N windows, L tokens of a window, H heads, E channels of all heads, e = E / H.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurkit.models.vrt.target import needed

_LIVE_SCORES = 3_500_000  # attention scores made at a time in the backward pass: what caches hold
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def refuse_second_derivatives() -> None:
    """Raise a RuntimeError in a backward pass that is itself to be differentiated."""
    if torch.is_grad_enabled():
        raise RuntimeError("the backward pass of this operator is not differentiable; see create_graph=True")


def _split_heads(qkv: Tensor, heads: int) -> Tensor:
    """View (N, L, 3E) as (3, N, H, L, e)."""
    return qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float64 else torch.float32


@torch.library.custom_op("deblurkit::biased_attention", mutates_args=())
def biased_attention(
    qkv: Tensor, bias: Tensor, masks: Tensor, starts: list[int], heads: int
) -> tuple[Tensor, Tensor]:
    """Return softmax(q k' / sqrt(e) + bias + mask) v and the log of the softmax's denominator.

    Args:
        qkv: (N, L, 3E), the last axis running q/k/v, head, channel.
        bias: (H, L, L), the same for all windows.
        masks: (kinds, L, L), added to the bias of the windows of a kind.
        starts: first window of every kind, and N.
        heads: H.

    Returns:
        (N, L, E) and (N, H, L).
    """
    parts = []
    for kind, (start, stop) in enumerate(zip(starts, starts[1:], strict=False)):
        query, key, value = _split_heads(qkv[start:stop], heads)
        shifted = (bias + masks[kind]).to(qkv.dtype)
        everywhere = shifted[None].expand(stop - start, *shifted.shape)
        parts.append(_flash(query, key, value, 0.0, False, attn_mask=everywhere))
    if len(parts) == 1:
        return parts[0][0].transpose(1, 2).flatten(2), parts[0][1].contiguous()
    out = torch.cat([part[0].transpose(1, 2) for part in parts])  # (N, L, H, e)
    return out.flatten(2), torch.cat([part[1] for part in parts])


@biased_attention.register_fake
def _(qkv: Tensor, bias: Tensor, masks: Tensor, starts: list[int], heads: int) -> tuple[Tensor, Tensor]:
    windows, tokens, width = qkv.shape
    out = qkv.new_empty(windows, tokens, width // 3)
    return out, qkv.new_empty(windows, heads, tokens, dtype=_wide(qkv.dtype))


@torch.library.custom_op("deblurkit::biased_attention_backward", mutates_args=())
def biased_attention_backward(
    grad: Tensor,
    qkv: Tensor,
    bias: Tensor,
    masks: Tensor,
    starts: list[int],
    heads: int,
    out: Tensor,
    log_sum: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of qkv (N, L, 3E) and of the bias (H, L, L).

    With P = exp(S - log_sum) and D the row sums of grad * out, the scores' gradient is P * (grad v' - D)
    (Dao et al., arXiv:2205.14135, app. B.2), and the bias's is its sum over the windows. The subtractions
    ride on the matrix products as one more channel.
    """
    tokens, width = qkv.shape[1], qkv.shape[2] // 3
    scale = (width // heads) ** -0.5
    parts = _with_subtractions(grad, qkv, heads, out, log_sum, scale=scale)
    step = max(1, _LIVE_SCORES // (heads * tokens * tokens))
    room = parts.new_empty(2, min(step, len(qkv)) * heads, tokens, tokens)
    grad_qkv, grad_bias = torch.empty_like(qkv), torch.zeros_like(bias, dtype=parts.dtype)
    to_qkv = _split_heads(grad_qkv, heads)
    for kind, (start, stop) in enumerate(zip(starts, starts[1:], strict=False)):
        shifted = (bias + masks[kind]).to(qkv.dtype).to(parts.dtype)  # as the forward pass has rounded it
        for first in needed(range(start, stop, step)):
            windows = slice(first, min(first + step, stop))
            grads = _scores_backward(parts[:, windows], shifted, room=room, grad_bias=grad_bias)
            grads[0].mul_(scale)
            for to, part in zip(to_qkv, grads, strict=True):
                to[windows] = part
    return grad_qkv, grad_bias


def _with_subtractions(
    grad: Tensor, qkv: Tensor, heads: int, out: Tensor, log_sum: Tensor, *, scale: float
) -> Tensor:
    """Return [q, -log_sum], [k, 1], [v, 1] and [grad, -D] of each head: (4, N, H, L, e + 1)."""
    query, key, value = _split_heads(qkv, heads)
    incoming, seen = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (grad, out))
    parts = query.new_empty(4, *query.shape[:-1], query.shape[-1] + 1, dtype=_wide(qkv.dtype))
    for part, rows in zip(parts[..., :-1], (query, key, value, incoming), strict=True):
        part.copy_(rows)
    parts[0, ..., :-1].mul_(scale)
    parts[1:3, ..., -1] = 1.0
    torch.neg(log_sum, out=parts[0, ..., -1])
    torch.sum(incoming.to(parts.dtype) * seen.to(parts.dtype), dim=-1, out=parts[3, ..., -1])
    parts[3, ..., -1].neg_()
    return parts


def _scores_backward(
    parts: Tensor, bias: Tensor, *, room: Tensor, grad_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q / scale, k and v, (n, H, L, e), and add to ``grad_bias``.

    ``parts`` is (4, n, H, L, e + 1) as of `_with_subtractions`, ``room`` holds the scores of n windows twice.
    """
    count, heads = parts.shape[1:3]
    query, key, value, incoming = parts.flatten(1, 2)  # each (n * H, L, e + 1)
    weights, grad_scores = room[0, : len(query)], room[1, : len(query)]
    torch.bmm(query, key.transpose(1, 2), out=weights)
    weights.unflatten(0, (count, heads)).add_(bias)
    weights.exp_()
    grad_value = torch.bmm(weights.transpose(1, 2), incoming[..., :-1])
    torch.bmm(incoming, value.transpose(1, 2), out=grad_scores)
    grad_scores.mul_(weights)
    grad_bias += grad_scores.unflatten(0, (count, heads)).sum(0)
    grad_query = torch.bmm(grad_scores, key[..., :-1])
    grad_key = torch.bmm(grad_scores.transpose(1, 2), query[..., :-1])
    return tuple(x.unflatten(0, (count, heads)) for x in (grad_query, grad_key, grad_value))


@biased_attention_backward.register_fake
def _(
    grad: Tensor,
    qkv: Tensor,
    bias: Tensor,
    masks: Tensor,
    starts: list[int],
    heads: int,
    out: Tensor,
    log_sum: Tensor,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(qkv), torch.empty_like(bias, dtype=_wide(qkv.dtype))


def _biased_setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    qkv, bias, masks, ctx.starts, ctx.heads = inputs
    ctx.save_for_backward(qkv, bias, masks, *output)
    ctx.mark_non_differentiable(output[1])


def _biased_backward(ctx, grad, _):  # type: ignore[no-untyped-def]
    qkv, bias, masks, out, log_sum = ctx.saved_tensors
    grad_qkv, grad_bias = biased_attention_backward(
        grad, qkv, bias, masks, ctx.starts, ctx.heads, out, log_sum
    )
    return grad_qkv, grad_bias.to(bias.dtype), None, None, None


biased_attention.register_autograd(_biased_backward, setup_context=_biased_setup)


def _frames(qkv: Tensor, heads: int) -> Tensor:
    """View (N, L, 3E), windows of two frames, as (3, 2, N, H, L/2, e)."""
    return qkv.unflatten(1, (2, -1)).unflatten(-1, (3, heads, -1)).permute(3, 1, 0, 4, 2, 5)


def _frame_mask(masks: Tensor, kind: int, like: Tensor) -> Tensor | None:
    """Return the mask of a kind for the fused kernel, or None for the kind that hides nothing."""
    if masks.shape[0] == 1:
        return None
    return masks[kind].to(like.dtype).expand(*like.shape[:-1], masks.shape[-1])


@torch.library.custom_op("deblurkit::mutual_attention", mutates_args=())
def mutual_attention(qkv: Tensor, masks: Tensor, starts: list[int], heads: int) -> tuple[Tensor, Tensor]:
    """Return each frame as seen by the other's queries, and the logs of the softmax's denominators.

    Args:
        qkv: (N, L, 3E), windows of two frames, the last axis running q/k/v, head, channel.
        masks: (kinds, L/2, L/2).
        starts: first window of every kind, and N.
        heads: H.

    Returns:
        (N, L, E) and (2, N, H, L/2).
    """
    windows, tokens, width = qkv.shape
    out = qkv.new_empty(windows, 2, tokens // 2, heads, width // 3 // heads)
    log_sum = qkv.new_empty(2, windows, heads, tokens // 2, dtype=_wide(qkv.dtype))
    for kind, (start, stop) in enumerate(zip(starts, starts[1:], strict=False)):
        query, key, value = _frames(qkv[start:stop], heads)
        for frame in (0, 1):
            mask = _frame_mask(masks, kind, query[0])
            seen, logs = _flash(query[1 - frame], key[frame], value[frame], 0.0, False, attn_mask=mask)
            out[start:stop, frame] = seen.transpose(1, 2)
            log_sum[frame, start:stop] = logs
    return out.flatten(3).flatten(1, 2), log_sum


@mutual_attention.register_fake
def _(qkv: Tensor, masks: Tensor, starts: list[int], heads: int) -> tuple[Tensor, Tensor]:
    windows, tokens, width = qkv.shape
    log_sum = qkv.new_empty(2, windows, heads, tokens // 2, dtype=_wide(qkv.dtype))
    return qkv.new_empty(windows, tokens, width // 3), log_sum


@torch.library.custom_op("deblurkit::mutual_attention_backward", mutates_args=())
def mutual_attention_backward(
    grad: Tensor, qkv: Tensor, masks: Tensor, starts: list[int], heads: int, out: Tensor, log_sum: Tensor
) -> Tensor:
    """Return the gradient of qkv, (N, L, 3E)."""
    grad_qkv = torch.empty_like(qkv)
    for kind, (start, stop) in enumerate(zip(starts, starts[1:], strict=False)):
        query, key, value = _frames(qkv[start:stop], heads)
        grads = _frames(grad_qkv[start:stop], heads)
        seen = out[start:stop].unflatten(1, (2, -1)).unflatten(-1, (heads, -1)).permute(1, 0, 3, 2, 4)
        incoming = grad[start:stop].unflatten(1, (2, -1)).unflatten(-1, (heads, -1)).permute(1, 0, 3, 2, 4)
        for frame in (0, 1):
            grads[0, 1 - frame], grads[1, frame], grads[2, frame] = _flash_backward(
                incoming[frame],
                query[1 - frame],
                key[frame],
                value[frame],
                seen[frame],
                log_sum[frame, start:stop],
                0.0,
                False,
                attn_mask=_frame_mask(masks, kind, query[0]),
            )
    return grad_qkv


@mutual_attention_backward.register_fake
def _(
    grad: Tensor, qkv: Tensor, masks: Tensor, starts: list[int], heads: int, out: Tensor, log_sum: Tensor
) -> Tensor:
    return torch.empty_like(qkv)


def _mutual_setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    qkv, masks, ctx.starts, ctx.heads = inputs
    ctx.save_for_backward(qkv, masks, *output)
    ctx.mark_non_differentiable(output[1])


def _mutual_backward(ctx, grad, _):  # type: ignore[no-untyped-def]
    qkv, masks, out, log_sum = ctx.saved_tensors
    grad_qkv = mutual_attention_backward(grad, qkv, masks, ctx.starts, ctx.heads, out, log_sum)
    return grad_qkv, None, None, None


mutual_attention.register_autograd(_mutual_backward, setup_context=_mutual_setup)


class _GatedMlp(torch.autograd.Function):
    """(GELU(x w1' + b1) * (x w2' + b2)) w3' + b3 that keeps the two projections and makes the rest again.

    T rows. The two are one batched product, and each lies in memory by itself: GELU on every second half row
    is several times slower.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, x: Tensor, weights: Tensor, biases: Tensor, last_weight: Tensor, last_bias: Tensor
    ) -> Tensor:
        both = torch.bmm(x.expand(2, *x.shape), weights.transpose(1, 2)).add_(biases[:, None])
        ctx.save_for_backward(x, weights, last_weight, both)
        return torch.addmm(last_bias, F.gelu(both[0]).mul_(both[1]), last_weight.t())

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def]
        refuse_second_derivatives()
        x, weights, last_weight, both = ctx.saved_tensors
        opened = F.gelu(both[0])
        grad_last = grad.t() @ (opened * both[1])
        grad_gated = grad @ last_weight
        grads = torch.empty_like(both)
        torch.mul(grad_gated, opened, out=grads[1])
        torch.ops.aten.gelu_backward.grad_input(grad_gated.mul_(both[1]), both[0], grad_input=grads[0])
        grad_x = (grads[0] @ weights[0]).addmm_(grads[1], weights[1])
        grad_weights = torch.bmm(grads.transpose(1, 2), x.expand(2, *x.shape))
        return grad_x, grad_weights, grads.sum(1), grad_last, grad.sum(0)


def gated_mlp(x: Tensor, weights: Tensor, biases: Tensor, last_weight: Tensor, last_bias: Tensor) -> Tensor:
    """Return (GELU(x w1' + b1) * (x w2' + b2)) w3' + b3, exact GELU.

    Args:
        x: (T, C).
        weights: (2, E, C), w1 and w2.
        biases: (2, E), b1 and b2.
        last_weight: (O, E), w3.
        last_bias: (O,), b3.

    Returns:
        (T, O).
    """
    if torch.is_autocast_enabled(x.device.type):
        half = torch.get_autocast_dtype(x.device.type)
        x, weights, biases = x.to(half), weights.to(half), biases.to(half)
        last_weight, last_bias = last_weight.to(half), last_bias.to(half)
    if torch.compiler.is_compiling():  # the compiler fuses and recomputes by itself
        first, second = torch.baddbmm(biases[:, None], x.expand(2, *x.shape), weights.transpose(1, 2))
        return F.linear(F.gelu(first) * second, last_weight, last_bias)
    fed: Tensor = _GatedMlp.apply(x, weights, biases, last_weight, last_bias)
    return fed


class _Rearrange(torch.autograd.Function):
    """Rows picked by an index; the backward pass picks too, by the inverse, where PyTorch would scatter."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, rows: Tensor, index: Tensor, inverse: Tensor, empty: Tensor | None, full: Tensor | None
    ):
        ctx.save_for_backward(inverse, full)
        picked = rows.index_select(0, index)
        return picked if empty is None else picked.index_fill_(0, empty, 0.0)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        inverse, full = ctx.saved_tensors
        picked = grad.index_select(0, inverse)
        return picked if full is None else picked.index_fill_(0, full, 0.0), None, None, None, None


def to_windows(tokens: Tensor, index: Tensor, inverse: Tensor, padding: Tensor | None) -> Tensor:
    """Return the rows of (T, C) that stand in the windows, (N * L, C), zero at the places ``padding``."""
    rows: Tensor = _Rearrange.apply(tokens, index, inverse, padding, None)
    return rows


def from_windows(rows: Tensor, index: Tensor, inverse: Tensor, padding: Tensor | None) -> Tensor:
    """Undo `to_windows`: (N * L, C) -> (T, C)."""
    tokens: Tensor = _Rearrange.apply(rows, inverse, index, None, padding)
    return tokens
