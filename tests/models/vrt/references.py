"""What the reference numbers were made with, and slow computations that the network's parts must equal.

Seeded weights, clips and loss are those of the reference numbers in ``fixtures/``, so they must not change.
"""

import zlib

import numpy as np
import torch


def seed_weights(model):
    """Fill the parameters with numbers that depend on their names alone, and return the model."""
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(_seeded(key, tuple(parameter.shape))))
    return model


def _seeded(key, shape):
    drawn = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    if key.endswith("relative_position_bias_table"):
        return np.float32(0.2) * drawn
    if drawn.ndim == 1:
        return 1 + np.float32(0.1) * drawn if key.endswith("weight") else np.float32(0.02) * drawn
    drawn = drawn / np.float32(np.sqrt(np.prod(shape[1:])))  # a division in float64 rounds otherwise
    return np.float32(0.5) * drawn if "conv_offset.6" in key else drawn


def seeded_clip(seed, shape):
    """Return a smooth pattern (B, D, C, H, W) in [0, 1] that moves two pixels right and one down a frame."""
    batch, depth, channels, height, width = shape
    noise = np.random.RandomState(seed).standard_normal(
        (batch, channels, height + 2 * depth, width + 2 * depth)
    )
    noise = noise.astype(np.float32)
    for _ in range(2):
        noise = (noise + np.roll(noise, 1, -1) + np.roll(noise, 1, -2) + np.roll(noise, (1, 1), (-1, -2))) / 4
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    frames = [noise[..., t : t + height, 2 * t : 2 * t + width] for t in range(depth)]
    return torch.from_numpy(np.stack(frames, 1))


def seeded_loss(out):
    """Return the mean of the outputs, each with a weight of its own, times 1000."""
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype)
    return 1000 / out.numel() * (out.flatten() * weights).sum()


def results(model, clip):
    """Return output, gradient of the clip and gradients of all parameters (0 where none flows)."""
    clip = clip.clone().requires_grad_()
    model.zero_grad()
    out = model(clip)
    seeded_loss(out).backward()
    grads = {
        key: torch.zeros_like(p) if p.grad is None else p.grad.clone() for key, p in model.named_parameters()
    }
    return out.detach(), clip.grad, grads


class QuickFlow(torch.nn.Module):
    """Flows of a few pixels from one convolution, in the place of SpyNet."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.conv = torch.nn.Conv2d(6, 2, 5, padding=2)

    def forward(self, ref, supp):
        """Return flows (P, 2, H // s, W // s) for s = 1, 2, 4, 8."""
        flow = 20 * self.conv(torch.cat([ref, supp], dim=1) - 0.5)
        return [torch.nn.functional.avg_pool2d(flow, s) / s for s in (1, 2, 4, 8)]


def assert_near(actual, expected, *, within, name=""):
    """Fail unless ``actual`` differs from ``expected`` by at most ``within`` of its largest value."""
    assert actual.shape == expected.shape, name
    error = (actual.double() - expected.double()).abs().max().item()
    largest = expected.double().abs().max().item()
    assert error <= within * largest, f"{name}: off by {error:.3g} where the largest is {largest:.3g}"


def softmax_attention(query, key, value, scores_added):
    """Return softmax(q k' / sqrt(e) + added) v with the matrix written out."""
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5 + scores_added
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True) @ value


def window_masks(masks, starts):
    """Return the mask of every window, (N, 1, L, L), from the masks of the kinds."""
    counts = [stop - start for start, stop in zip(starts, starts[1:], strict=False)]
    return masks.repeat_interleave(torch.tensor(counts), dim=0)[:, None]


def split(qkv, heads):
    """Return query, key and value as (N, H, L, e) from (N, L, 3 * H * e)."""
    windows, tokens, width = qkv.shape
    parts = qkv.reshape(windows, tokens, 3, heads, width // 3 // heads)
    return [parts[:, :, i].transpose(1, 2) for i in range(3)]


def self_attention(qkv, bias, masks, starts, heads):
    """Return what each token sees of its window, (N, L, E): matrices, bias and masks written out."""
    query, key, value = split(qkv, heads)
    out = softmax_attention(query, key, value, bias + window_masks(masks, starts).to(bias.dtype))
    return out.transpose(1, 2).flatten(2)


def frame_attention(qkv, masks, starts, heads):
    """Return frame 1's keys and values as frame 2's queries see them, and the other way round, (N, L, E)."""
    query, key, value = split(qkv, heads)
    half = qkv.shape[1] // 2
    one, two = slice(0, half), slice(half, None)
    added = window_masks(masks, starts).to(qkv.dtype)
    first = softmax_attention(query[:, :, two], key[:, :, one], value[:, :, one], added)
    second = softmax_attention(query[:, :, one], key[:, :, two], value[:, :, two], added)
    return torch.cat([first, second], dim=2).transpose(1, 2).flatten(2)


def stripes(tokens, kinds):
    """Return masks (kinds, tokens, tokens) of 0 and -inf that hide stripes of tokens from each other.

    Kind n has n + 1 stripes, so kind 0 hides nothing.
    """
    at = torch.arange(tokens)
    masks = []
    for kind in range(kinds):
        stripe = at * (kind + 1) // tokens
        hidden = stripe[:, None] != stripe[None]
        masks.append(torch.zeros(tokens, tokens).masked_fill(hidden, float("-inf")))
    return torch.stack(masks)


def bilinear(x, flow, *, border=False):
    """Return (P, C, H, W) sampled where the flow (P, 2, H, W) points: loops over pixels and their neighbours.

    Outside lie zeros or, with ``border``, the nearest pixel.
    """
    count, _, height, width = x.shape
    frames = []
    for p in range(count):
        rows = []
        for i in range(height):
            for j in range(width):
                at_x, at_y = j + flow[p, 0, i, j], i + flow[p, 1, i, j]
                if border:
                    at_x, at_y = at_x.clamp(0, width - 1), at_y.clamp(0, height - 1)
                rows.append(_between_pixels(x[p], at_x, at_y))
        frames.append(torch.stack(rows, dim=-1).view(-1, height, width))
    return torch.stack(frames)


def _between_pixels(image, at_x, at_y):
    left, top = int(at_x.detach().floor()), int(at_y.detach().floor())
    total = torch.zeros_like(image[:, 0, 0])
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                share = (1 - (at_x - column).abs()) * (1 - (at_y - row).abs())
                total = total + share * image[:, row, column]
    return total


def assert_twice_differentiable_or_refused(function, shapes):
    """Fail if second derivatives come out otherwise than by finite differences; a refusal will do."""
    inputs = [(0.5 * torch.rand(shape, dtype=torch.float64)).requires_grad_() for shape in shapes]
    try:
        grads = torch.autograd.grad(function(*inputs).square().sum(), inputs, create_graph=True)
        torch.autograd.grad(sum(grad.square().sum() for grad in grads), inputs)
    except RuntimeError:
        return
    assert torch.autograd.gradgradcheck(function, inputs)
