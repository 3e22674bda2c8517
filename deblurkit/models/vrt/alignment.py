"""Parallel warping: neighbouring frames aligned by flow-guided deformable convolution."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblurkit.models.vrt.constants import once_per_shape
from deblurkit.models.vrt.flow import ClipFlows
from deblurkit.models.vrt.half import in_float32
from deblurkit.models.vrt.kernels import refuse_second_derivatives
from deblurkit.models.vrt.target import device_kind, needed
from deblurkit.models.vrt.warping import displaced, pixel_scale, warp

TAPS = 9
_LIVE_SAMPLES_CPU = 4_000_000  # what the taps see at a time: what a CPU's caches hold
_LIVE_SAMPLES = 2**28  # the same on a GPU: 1 GiB
_LIVE_OFFSETS = 2**27  # offsets and masks at a time where no gradient keeps them all


def deformable_conv(
    x: Tensor, at: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, *, conv_groups: int
) -> Tensor:
    """Return a modulated deformable 3x3 convolution, Zhu et al., arXiv:1811.11168, sec. 3.2.

    P frames, C channels in, E out, G deformable groups. All taps of a group are one `grid_sample`, and the
    convolution is a matrix product over what was sampled.

    Args:
        x: (P, C, H, W).
        at: (P, 2, G, 9, H, W), where each tap samples, x first, -1 to 1 with aligned corners; zeros outside.
        mask: (P, G, 9, H, W), what each sample is multiplied by.
        weight: (E, C / conv_groups, 3, 3).
        bias: (E,).
        conv_groups: groups of the convolution.

    Returns:
        (P, H * W, E).
    """
    kernel = weight.reshape(conv_groups, weight.shape[0] // conv_groups, -1).to(x.dtype)
    if torch.compiler.is_compiling():
        out = kernel @ _columns(x, at, mask, conv_groups)
    else:
        out = _DeformableProduct.apply(x, at, mask, kernel)  # (P, n, E / n, H * W)
    return out.flatten(1, 2).transpose(1, 2) + bias


def _columns(x: Tensor, at: Tensor, mask: Tensor, conv_groups: int) -> Tensor:
    """Return what the taps of each pixel see, times the mask: (P, n, C / n * 9, H * W).

    ``at`` and ``mask`` may be some rows of them, and so is the result.
    """
    count, channels, height, width = x.shape
    groups = at.shape[2]
    sampled = F.grid_sample(
        x.reshape(count * groups, channels // groups, height, width),
        at.permute(0, 2, 3, 4, 5, 1).reshape(count * groups, -1, width, 2),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=True,
    )
    pixels = mask.shape[-2] * width
    sampled = sampled.view(count, groups, channels // groups, TAPS, pixels)
    seen = sampled * mask.reshape(count, groups, 1, TAPS, pixels)
    return seen.view(count, conv_groups, -1, pixels)


class _DeformableProduct(torch.autograd.Function):
    """The kernel (n, E / n, C / n * 9) times `_columns`, which are made again in the backward pass.

    What the taps see is nine times the frames; it is made for a few frames, or rows of a frame, at a time.
    """

    @staticmethod
    def forward(ctx, x: Tensor, at: Tensor, mask: Tensor, kernel: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, at, mask, kernel)
        count, _, height, width = x.shape
        out = x.new_empty(count, *kernel.shape[:2], height, width)
        for frames, rows in needed(_pieces(x)):
            columns = _columns(x[frames], at[frames, ..., rows, :], mask[frames, ..., rows, :], len(kernel))
            out[frames, ..., rows, :] = (kernel @ columns).unflatten(3, (-1, width))
        return out.flatten(3)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # type: ignore[no-untyped-def]
        refuse_second_derivatives()
        x, at, mask, kernel = ctx.saved_tensors
        grad_x, grad_at, grad_mask = torch.zeros_like(x), torch.empty_like(at), torch.empty_like(mask)
        grad_kernel = torch.zeros_like(kernel)
        grad = grad.unflatten(3, x.shape[-2:])
        for frames, rows in needed(_pieces(x)):
            places = frames, ..., rows, slice(None)
            with torch.enable_grad():
                inputs = [part.detach().requires_grad_() for part in (x[frames], at[places], mask[places])]
                columns = _columns(inputs[0], inputs[1], inputs[2], len(kernel))
            incoming = grad[places].flatten(3)
            grad_kernel += (incoming @ columns.detach().transpose(2, 3)).sum(0)
            to_columns = kernel.transpose(1, 2) @ incoming
            to_x, grad_at[places], grad_mask[places] = torch.autograd.grad(columns, inputs, to_columns)
            grad_x[frames] += to_x
        return grad_x, grad_at, grad_mask, grad_kernel


def _pieces(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield frames and rows of (P, C, H, W) of which the taps see no more than fits at a time."""
    count, _, height, _ = x.shape
    limit = _LIVE_SAMPLES_CPU if device_kind(x.device) == "cpu" else _LIVE_SAMPLES
    samples = TAPS * x[0].numel()
    frames = max(1, limit // samples)
    rows = height if samples <= limit else max(1, limit * height // samples)
    for start in range(0, count, frames):
        for top in range(0, height, rows):
            yield slice(start, start + frames), slice(top, top + rows)


@once_per_shape
def _tap_offsets(like: torch.dtype, device: torch.device) -> Tensor:
    """Return where the taps of a 3x3 kernel lie, (2, 9), x first, row by row."""
    axis = torch.arange(-1, 2, dtype=like, device=device)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()])


class FlowGuidedAlignment(nn.Module):
    """Aligns the frames around each frame with it, Liang et al., arXiv:2201.12288, sec. 3.3.

    B clips, D frames, C channels, n neighbours on each side, P = 2 * B * (D - 1) pairs of a target and its
    neighbours: both directions are one batch.

    Args:
        dim: C.
        neighbours: n.
        groups: deformable groups G; each covers n * C / G channels of the neighbours.
        radius: largest offset from where the flow points [pixels of the scale].
    """

    def __init__(self, dim: int, *, neighbours: int, groups: int, radius: float) -> None:
        super().__init__()
        self.neighbours, self.groups, self.radius = neighbours, groups, radius
        self.weight = nn.Parameter(torch.empty(dim, dim, 3, 3))
        self.bias = nn.Parameter(torch.zeros(dim))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        layers: list[nn.Module] = []
        for width in ((1 + neighbours) * dim + 2 * neighbours, dim, dim):
            layers += [nn.Conv2d(width, dim, 3, padding=1), nn.LeakyReLU(0.1)]
        last = nn.Conv2d(dim, 27 * groups, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.conv_offset = nn.Sequential(*layers, last)

    def forward(self, x: Tensor, flows: ClipFlows) -> tuple[Tensor, Tensor]:
        """Return the clip aligned from the frames after and from those before: (B, D, H, W, C), twice.

        Zero for the frame that has no neighbour on that side.
        """
        batch, depth, height, width, dim = x.shape
        frames = x.permute(0, 1, 4, 2, 3).contiguous()  # (B, D, C, H, W)
        near, moved = self._pairs(frames, flows)
        target = torch.cat([frames[:, :-1], frames[:, 1:]]).flatten(0, 1)  # (P, C, H, W)
        aligned = self._align_a_few(near, target, moved).view(2, batch, depth - 1, height, width, dim)
        nothing = aligned.new_zeros(batch, 1, height, width, dim)
        return torch.cat([aligned[0], nothing], dim=1), torch.cat([nothing, aligned[1]], dim=1)

    def _pairs(self, frames: Tensor, flows: ClipFlows) -> tuple[list[Tensor], list[Tensor]]:
        """Return the neighbours (P, C, H, W) and the flows to them (P, 2, H, W), nearest first.

        What lies outside the clip is zero, and so is the flow to it.
        """
        depth = frames.shape[1]
        near, moved = [], []
        for step in range(1, self.neighbours + 1):
            outside = min(step - 1, depth - 1)  # targets whose neighbour lies beyond the clip
            after = _pad_frames(frames[:, step:], after=outside)
            before = _pad_frames(frames[:, : max(0, depth - step)], before=outside)
            near.append(torch.cat([after, before]).flatten(0, 1))
            backward = _pad_frames(flows.backward[step - 1], after=outside)
            forward = _pad_frames(flows.forward[step - 1], before=outside)
            moved.append(torch.cat([backward, forward]).flatten(0, 1))
        return near, moved

    def _align_a_few(self, near: list[Tensor], target: Tensor, flows: list[Tensor]) -> Tensor:
        """Return `_align` of all pairs, of a few at a time where no gradient keeps their offsets."""
        step = len(target)
        if not torch.is_grad_enabled():
            step = max(1, _LIVE_OFFSETS // (3 * self.groups * TAPS * target.shape[-2:].numel()))
        parts = zip(*(frames.split(step) for frames in (*near, target, *flows)), strict=True)
        n = self.neighbours
        return torch.cat([self._align(list(part[:n]), part[n], list(part[n + 1 :])) for part in parts])

    def _align(self, near: list[Tensor], target: Tensor, flows: list[Tensor]) -> Tensor:
        """Return the neighbours aligned with their targets, (P, H * W, C)."""
        dtype = flows[0].dtype
        with in_float32(target.device):
            warped = [warp(x.to(dtype), flow) for x, flow in zip(near, flows, strict=True)]
        *layers, last = self.conv_offset
        hidden = nn.Sequential(*layers)(torch.cat([*warped, target.to(dtype), *flows], dim=1))
        with in_float32(target.device):
            raw = self._offsets(last, hidden.to(dtype))
            taps = self.groups * TAPS
            offsets, masks = raw.split([2 * taps, taps], dim=1)
            return deformable_conv(
                torch.cat(near, dim=1).to(dtype),
                self._positions(offsets, flows),
                masks.sigmoid().unflatten(1, (self.groups, TAPS)),
                self.weight,
                self.bias,
                conv_groups=self.neighbours,
            )

    def _offsets(self, last: nn.Module, hidden: Tensor) -> Tensor:
        """Return the raw offsets and mask, (P, 2 + 1, G, 9, H, W) flat on channels, x before y.

        The published weights run group, tap, (y, x): picking the rows of a small weight costs less than
        moving what it makes.
        """
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        order = _offset_order(self.groups, hidden.device)
        return F.conv2d(hidden, last.weight[order], last.bias[order], padding=1)

    def _positions(self, raw: Tensor, flows: list[Tensor]) -> Tensor:
        """Return where every tap samples, (P, 2, G, 9, H, W) from -1 to 1: flow, tap and bounded offset."""
        height, width = raw.shape[-2:]
        scale = pixel_scale(height, width, device=raw.device, dtype=raw.dtype).view(2, 1, 1, 1, 1)
        taps = _tap_offsets(raw.dtype, raw.device).view(2, 1, TAPS, 1, 1)
        ends = [
            (displaced(flow)[:, :, None, None] + taps) * scale - 1 for flow in flows
        ]  # (P, 2, 1, 9, H, W)
        offset = raw.tanh().unflatten(1, (2, self.groups, TAPS))
        if self.neighbours == 1:
            base = ends[0]
        else:  # each neighbour's flow moves an equal share of all taps, in the order of groups and taps
            every = torch.cat([end.expand(-1, -1, self.groups, -1, -1, -1) for end in ends], dim=2)
            base = every.flatten(2, 3)[:, :, _flow_rows(self.groups, self.neighbours, raw.device)]
            base = base.unflatten(2, (self.groups, TAPS))
        return torch.addcmul(base, offset, self.radius * scale)


def _pad_frames(frames: Tensor, *, before: int = 0, after: int = 0) -> Tensor:
    """Add empty frames to (B, D, C, H, W)."""
    if not before and not after:
        return frames
    return F.pad(frames, (0, 0, 0, 0, 0, 0, before, after))


@once_per_shape
def _offset_order(groups: int, device: torch.device) -> Tensor:
    """Return the published channel of every offset in the order (x, y), group, tap, and of every mask."""
    published = torch.arange(2 * groups * TAPS, device=device).view(groups, TAPS, 2)  # (y, x)
    offsets = published.flip(2).permute(2, 0, 1).flatten()
    masks = torch.arange(2 * groups * TAPS, 3 * groups * TAPS, device=device)
    return torch.cat([offsets, masks])


@once_per_shape
def _flow_rows(groups: int, neighbours: int, device: torch.device) -> Tensor:
    """Return the row of [neighbour, group, tap] that moves every group and tap, (G * 9,)."""
    taps = groups * TAPS
    at = torch.arange(taps, device=device)
    return at * neighbours // taps * taps + at
