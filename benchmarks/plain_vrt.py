"""VRT as one would first write it down from its description: the yardstick of `vrt_step.py`.

Attention matrices are materialised, with their bias gathered and their mask added in every block; frame pairs
are warped and aligned one after the other; the deformable convolution is torchvision's. Parameters have the
published names, so that one state dict fits this network and ``deblurkit.models.vrt.network.VRT``. Shapes:
B clips, D frames, C channels, H x W pixels, N windows, L tokens of a window.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

Triple = tuple[int, int, int]


def warp(x: Tensor, flow: Tensor, *, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    """Sample (B, C, H, W) at its pixels displaced by flow (B, 2, H, W) in pixels, x first."""
    rows, columns = pixels(x)
    return sample(x, columns + flow[:, 0], rows + flow[:, 1], mode=mode, padding=padding)


def pixels(x: Tensor) -> tuple[Tensor, ...]:
    """Return the row and the column of every pixel of (B, C, H, W), each (H, W)."""
    rows, columns = (torch.arange(side, dtype=x.dtype, device=x.device) for side in x.shape[-2:])
    return torch.meshgrid(rows, columns, indexing="ij")


def sample(x: Tensor, columns: Tensor, rows: Tensor, *, mode: str, padding: str) -> Tensor:
    """Sample (B, C, H, W) at absolute positions (B, H, W)."""
    height, width = x.shape[-2:]
    grid = torch.stack([2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], dim=-1)
    return F.grid_sample(x, grid.to(x.dtype), mode=mode, padding_mode=padding, align_corners=True)


def warp_nearest4(x: Tensor, flow: Tensor) -> Tensor:
    """Return the four pixels around each displaced position: (B, C, H, W) -> (B, 4C, H, W)."""
    rows, columns = pixels(x)
    columns, rows = columns + flow[:, 0], rows + flow[:, 1]
    corners = [
        sample(x, column, row, mode="nearest", padding="zeros")
        for column in (columns.floor(), columns.ceil())
        for row in (rows.floor(), rows.ceil())
    ]
    return torch.cat(corners, dim=1)


class Level(nn.Module):
    """One level of SpyNet."""

    def __init__(self) -> None:
        super().__init__()
        widths = [8, 32, 64, 32, 16, 2]
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 7, padding=3), nn.ReLU()]
        self.basic_module = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.basic_module(x)


class SpyNet(nn.Module):
    """Optical flow of a pair at four scales."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList([Level() for _ in range(6)])
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, ref: Tensor, supp: Tensor) -> list[Tensor]:
        height, width = ref.shape[-2:]
        tall, wide = -(-height // 32) * 32, -(-width // 32) * 32
        pyramid = []
        for image in (ref, supp):
            image = F.interpolate(image, (tall, wide), mode="bilinear", align_corners=False)
            levels = [(image - self.mean) / self.std]
            for _ in range(5):
                levels.insert(0, F.avg_pool2d(levels[0], 2, 2))
            pyramid.append(levels)
        coarsest = pyramid[0][0]
        flow = coarsest.new_zeros(coarsest.shape[0], 2, coarsest.shape[2] // 2, coarsest.shape[3] // 2)
        flows = []
        for level, net in enumerate(self.basic_module):
            a, b = pyramid[0][level], pyramid[1][level]
            up = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            up = F.pad(up, (0, a.shape[3] - up.shape[3], 0, a.shape[2] - up.shape[2]), mode="replicate")
            flow = net(torch.cat([a, warp(b, up, padding="border"), up], dim=1)) + up
            flows.insert(0, flow)
        sized = []
        for i, flow in enumerate(flows[:4]):
            scale = 2**i
            size = (height // scale, width // scale)
            flow = F.interpolate(flow, size, mode="bilinear", align_corners=False)
            factor = flow.new_tensor([size[1] / (wide // scale), size[0] / (tall // scale)])
            sized.append(flow * factor.view(1, 2, 1, 1))
        return sized


def shift_and_window(size: Triple, window: Triple, shifted: bool) -> tuple[Triple, Triple]:
    """Shrink the window to the feature, and drop the shift on those axes."""
    used = tuple(min(s, w) for s, w in zip(size, window, strict=True))
    shift = tuple(w // 2 if shifted and s > w else 0 for s, w in zip(size, window, strict=True))
    return used, shift  # type: ignore[return-value]


def windows_of(x: Tensor, window: Triple) -> Tensor:
    """Cut (B, D, H, W, C) into (N, L, C)."""
    b, d, h, w, c = x.shape
    wd, wh, ww = window
    x = x.view(b, d // wd, wd, h // wh, wh, w // ww, ww, c)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, wd * wh * ww, c)


def join_windows(x: Tensor, window: Triple, shape: torch.Size) -> Tensor:
    """Undo `windows_of` for a feature of ``shape``."""
    b, d, h, w, c = shape
    wd, wh, ww = window
    x = x.view(b, d // wd, h // wh, w // ww, wd, wh, ww, c)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, d, h, w, c)


def shift_mask(size: Triple, window: Triple, shift: Triple) -> Tensor:
    """Return (N, L, L): -100 between tokens that the cyclic shift has brought together."""
    regions = torch.zeros(1, *size, 1)
    count = 0
    cuts = [
        (slice(0, -w), slice(-w, -s), slice(-s, None)) if s else (slice(0, None),)
        for w, s in zip(window, shift, strict=True)
    ]
    for d in cuts[0]:
        for h in cuts[1]:
            for w in cuts[2]:
                regions[:, d, h, w, :] = count
                count += 1
    cut = windows_of(regions, window).squeeze(-1)
    different = cut.unsqueeze(1) != cut.unsqueeze(2)
    return torch.zeros(different.shape).masked_fill(different, -100.0)


def relative_index(window: Triple) -> Tensor:
    """Return the row of the bias table for every pair of tokens, (L, L)."""
    wd, wh, ww = window
    axes = torch.meshgrid(torch.arange(wd), torch.arange(wh), torch.arange(ww), indexing="ij")
    at = torch.stack(axes).flatten(1)
    d, h, w = at[:, :, None] - at[:, None, :]
    return (d + wd - 1) * (2 * wh - 1) * (2 * ww - 1) + (h + wh - 1) * (2 * ww - 1) + w + ww - 1


def sine_encoding(height: int, width: int, channels: int) -> Tensor:
    """Return the encoding of the positions in a window, (1, height * width, channels)."""
    half = channels // 2
    rates = 10000 ** (2 * (torch.arange(half) // 2) / half)

    def axis(count: int) -> Tensor:
        at = torch.arange(1, count + 1) / (count + 1e-6) * (2 * math.pi)
        angles = at[:, None] / rates
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)

    rows = axis(height)[:, None, :].expand(height, width, half)
    columns = axis(width)[None, :, :].expand(height, width, half)
    return torch.cat([rows, columns], dim=2).reshape(1, height * width, channels)


class Attention(nn.Module):
    """Self attention and, with ``mutual``, attention between two frames."""

    relative_position_index: Tensor
    position_bias: Tensor

    def __init__(self, dim: int, window: Triple, heads: int, *, mutual: bool) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.mutual = mutual
        rows = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, heads))
        self.register_buffer("relative_position_index", relative_index(window))
        self.qkv_self = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(2 * dim if mutual else dim, dim)
        if mutual:
            self.register_buffer("position_bias", sine_encoding(window[1], window[2], dim))
            self.qkv_mut = nn.Linear(dim, 3 * dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        n, length, _ = x.shape
        q, k, v = self._split(self.qkv_self(x))
        index = self.relative_position_index[:length, :length].reshape(-1)
        bias = self.relative_position_bias_table[index].view(length, length, -1).permute(2, 0, 1)
        out = self._attend(q, k, v, bias=bias, mask=mask)
        if self.mutual:
            q, k, v = self._split(self.qkv_mut(x + self.position_bias.repeat(1, 2, 1)))
            half = length // 2
            part = None if mask is None else mask[:, :half, :half]
            first = self._attend(q[:, :, half:], k[:, :, :half], v[:, :, :half], bias=None, mask=part)
            second = self._attend(q[:, :, :half], k[:, :, half:], v[:, :, half:], bias=None, mask=part)
            out = torch.cat([torch.cat([first, second], dim=1), out], dim=2)
        return self.proj(out)

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, length, width = qkv.shape
        q, k, v = qkv.view(n, length, 3, self.heads, width // 3 // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None, mask: Tensor | None) -> Tensor:
        n, heads, length, _ = q.shape
        scores = (q * self.scale) @ k.transpose(-2, -1)
        if bias is not None:
            scores = scores + bias
        if mask is not None:
            scores = scores.view(-1, mask.shape[0], heads, length, length) + mask[:, None]
            scores = scores.view(n, heads, length, length)
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, -1)


class Geglu(nn.Module):
    """GELU-gated MLP."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc11 = nn.Linear(dim, hidden)
        self.fc12 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc11(x)) * self.fc12(x))


class Block(nn.Module):
    """Attention and MLP on (B, D, H, W, C)."""

    def __init__(self, dim: int, window: Triple, heads: int, *, mutual: bool, shifted: bool) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, window, heads, mutual=mutual)
        self.mlp = Geglu(dim, 2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _attention(self, x: Tensor) -> Tensor:
        size = x.shape[1:4]
        window, shift = shift_and_window(tuple(size), self.window, self.shifted)  # type: ignore[arg-type]
        missing = [-s % w for s, w in zip(size, window, strict=True)]
        x = F.pad(x, (0, 0, 0, missing[2], 0, missing[1], 0, missing[0]))
        padded = x.shape
        mask = None
        if any(shift):
            x = torch.roll(x, [-s for s in shift], dims=(1, 2, 3))
            mask = shift_mask(tuple(padded[1:4]), window, shift).to(x)  # type: ignore[arg-type]
        x = join_windows(self.attn(windows_of(x, window), mask), window, padded)
        if any(shift):
            x = torch.roll(x, shift, dims=(1, 2, 3))
        return x[:, : size[0], : size[1], : size[2]]


class Blocks(nn.Module):
    """A row of blocks, every second one shifted; (B, C, D, H, W) in and out."""

    def __init__(self, dim: int, depth: int, window: Triple, heads: int, *, mutual: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [Block(dim, window, heads, mutual=mutual, shifted=i % 2 == 1) for i in range(depth)]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 4, 1)
        for block in self.blocks:
            x = block(x)
        return x.permute(0, 4, 1, 2, 3)


def on_channels(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply ``layer`` to the channels of (B, C, D, H, W)."""
    return layer(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class Deform(nn.Module):
    """Flow-guided deformable alignment of one target frame."""

    def __init__(self, dim: int, neighbours: int, groups: int, radius: float) -> None:
        super().__init__()
        self.neighbours, self.radius = neighbours, radius
        self.weight = nn.Parameter(torch.zeros(dim, dim, 3, 3))
        self.bias = nn.Parameter(torch.zeros(dim))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        width = (1 + neighbours) * dim + 2 * neighbours
        layers: list[nn.Module] = []
        for before in (width, dim, dim):
            layers += [nn.Conv2d(before, dim, 3, padding=1), nn.LeakyReLU(0.1)]
        last = nn.Conv2d(dim, 27 * groups, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.conv_offset = nn.Sequential(*layers, last)

    def forward(self, neighbours: list[Tensor], target: Tensor, flows: list[Tensor]) -> Tensor:
        warped = [warp(x.to(flow.dtype), flow) for x, flow in zip(neighbours, flows, strict=True)]
        o1, o2, mask = self.conv_offset(torch.cat([*warped, target, *flows], dim=1)).chunk(3, dim=1)
        offset = self.radius * torch.tanh(torch.cat([o1, o2], dim=1))
        part = offset.shape[1] // self.neighbours
        moved = [flow.flip(1).repeat(1, part // 2, 1, 1) for flow in flows]
        offset = offset + torch.cat(moved, dim=1)
        x = torch.cat(neighbours, dim=1)
        with torch.autocast(x.device.type, enabled=False):  # the operator takes one dtype for all
            return deform_conv2d(
                x.to(self.weight.dtype),
                offset.to(self.weight.dtype),
                self.weight,
                self.bias,
                padding=1,
                mask=torch.sigmoid(mask).to(self.weight.dtype),
            )


class Stage(nn.Module):
    """One of the stages 1 to 7, (B, C, D, H, W) in and out."""

    def __init__(
        self, entry: str, dim_in: int, dim: int, depth: int, heads: int, window: Triple,
        *, pa_frames: int, groups: int, radius: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.entry, self.pa_frames = entry, pa_frames
        layers: list[nn.Module] = [nn.Identity()]
        if entry == "none":
            layers.append(nn.LayerNorm(dim_in))
        else:
            width = dim_in * 4 if entry == "down" else dim_in // 4
            layers += [nn.LayerNorm(width), nn.Linear(width, dim)]
        self.reshape = nn.ModuleList(layers)
        mutual = int(depth * 0.75)
        self.residual_group1 = Blocks(dim, mutual, (2, *window[1:]), heads, mutual=True)
        self.linear1 = nn.Linear(dim, dim)
        self.residual_group2 = Blocks(dim, depth - mutual, window, heads, mutual=False)
        self.linear2 = nn.Linear(dim, dim)
        self.pa_deform = Deform(dim, pa_frames // 2, groups, radius)
        self.pa_fuse = Geglu(3 * dim, 3 * dim, dim)

    def forward(self, x: Tensor, backward: list[Tensor], forward: list[Tensor]) -> Tensor:
        x = self._enter(x)
        x = x + on_channels(self.linear1, self.residual_group1(x))
        x = x + on_channels(self.linear2, self.residual_group2(x))
        return on_channels(self.pa_fuse, torch.cat([x, *self._align(x, backward, forward)], dim=1))

    def _enter(self, x: Tensor) -> Tensor:
        b, c, d, h, w = x.shape
        if self.entry == "down":
            x = x.view(b, c, d, h // 2, 2, w // 2, 2).permute(0, 6, 4, 1, 2, 3, 5)
            x = x.reshape(b, 4 * c, d, h // 2, w // 2)
        elif self.entry == "up":
            x = x.view(b, 2, 2, c // 4, d, h, w).permute(0, 3, 4, 5, 2, 6, 1)
            x = x.reshape(b, c // 4, d, 2 * h, 2 * w)
        for layer in list(self.reshape)[1:]:
            x = on_channels(layer, x)
        return x

    def _align(self, x: Tensor, backward: list[Tensor], forward: list[Tensor]) -> tuple[Tensor, Tensor]:
        frames = list(x.unbind(2))
        count, n = len(frames), self.pa_frames // 2
        nothing, still = torch.zeros_like(frames[0]), torch.zeros_like(backward[0][:, 0])
        after, before = [], []
        for t in range(count):
            if t == count - 1:
                after.append(nothing)
            else:
                inside = [t + j < count for j in range(1, n + 1)]
                near = [frames[t + j] if ok else nothing for j, ok in enumerate(inside, 1)]
                flows = [backward[j][:, t] if ok else still for j, ok in enumerate(inside)]
                after.append(self.pa_deform(near, frames[t], flows))
            if t == 0:
                before.append(nothing)
            else:
                inside = [t - j >= 0 for j in range(1, n + 1)]
                near = [frames[t - j] if ok else nothing for j, ok in enumerate(inside, 1)]
                flows = [forward[j][:, t - 1 - j] if ok else still for j, ok in enumerate(inside)]
                before.append(self.pa_deform(near, frames[t], flows))
        return torch.stack(after, 2), torch.stack(before, 2)


class Group(nn.Module):
    """A group of stage 8."""

    def __init__(self, dim: int, depth: int, window: Triple, heads: int) -> None:
        super().__init__()
        self.residual_group = Blocks(dim, depth, window, heads, mutual=False)
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + on_channels(self.linear, self.residual_group(x))


class PlainVRT(nn.Module):
    """VRT on a clip (B, D, 3, H, W) whose sides are multiples of 8."""

    def __init__(
        self, *, window_size: Triple, depths: list[int], indep_reconsts: list[int], embed_dims: list[int],
        num_heads: list[int], pa_frames: int, deformable_groups: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pa_frames = pa_frames
        self.conv_first = nn.Conv3d(27, embed_dims[0], (1, 3, 3), padding=(0, 1, 1))
        self.spynet = SpyNet()
        entries = ["none", "down", "down", "down", "up", "up", "up"]
        scales = [1, 2, 4, 8, 4, 2, 1]
        for i in range(7):
            stage = Stage(
                entries[i], embed_dims[max(i - 1, 0)], embed_dims[i], depths[i], num_heads[i], window_size,
                pa_frames=pa_frames, groups=deformable_groups, radius=10 / scales[i],
            )  # fmt: skip
            setattr(self, f"stage{i + 1}", stage)
        entry = nn.Sequential(
            nn.Identity(), nn.LayerNorm(embed_dims[6]), nn.Linear(embed_dims[6], embed_dims[7])
        )
        groups = [
            Group(embed_dims[i], depths[i], (1, *window_size[1:]) if i in indep_reconsts else window_size,
                  num_heads[i])
            for i in range(7, len(depths))
        ]  # fmt: skip
        self.stage8 = nn.ModuleList([entry, *groups])
        self.norm = nn.LayerNorm(embed_dims[-1])
        self.conv_after_body = nn.Linear(embed_dims[-1], embed_dims[0])
        self.conv_last = nn.Conv3d(embed_dims[0], 3, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        backward, forward = self._flows(x)
        near = self._near(x, backward[0][0], forward[0][0])
        f = self.conv_first(torch.cat([x, *near], dim=2).transpose(1, 2))
        x1 = self.stage1(f, backward[0], forward[0])
        x2 = self.stage2(x1, backward[1], forward[1])
        x3 = self.stage3(x2, backward[2], forward[2])
        x4 = self.stage4(x3, backward[3], forward[3])
        y = self.stage5(x4, backward[2], forward[2])
        y = self.stage6(y + x3, backward[1], forward[1])
        y = self.stage7(y + x2, backward[0], forward[0]) + x1
        y = on_channels(self.stage8[0], y)
        for group in list(self.stage8)[1:]:
            y = group(y)
        f = f + on_channels(self.conv_after_body, on_channels(self.norm, y))
        return self.conv_last(f).transpose(1, 2) + x

    def _flows(self, x: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Return the flows as [scale][steps - 1], each (B, D - steps, 2, h, w)."""
        d = x.shape[1]
        pairs = [self.spynet(x[:, t], x[:, t + 1]) for t in range(d - 1)]
        back = [[torch.stack([pair[s] for pair in pairs], 1)] for s in range(4)]
        pairs = [self.spynet(x[:, t + 1], x[:, t]) for t in range(d - 1)]
        ahead = [[torch.stack([pair[s] for pair in pairs], 1)] for s in range(4)]
        for s in range(4):
            b1, f1 = back[s][0], ahead[s][0]
            if self.pa_frames >= 4:
                two = [b1[:, t] + warp(b1[:, t + 1], b1[:, t]) for t in range(d - 2)]
                back[s].append(torch.stack(two, 1) if two else b1[:, :0])
                two = [f1[:, t + 1] + warp(f1[:, t], f1[:, t + 1]) for t in range(d - 2)]
                ahead[s].append(torch.stack(two, 1) if two else f1[:, :0])
            if self.pa_frames == 6:
                b2, f2 = back[s][1], ahead[s][1]
                three = [b2[:, t] + warp(b1[:, t + 2], b2[:, t]) for t in range(d - 3)]
                back[s].append(torch.stack(three, 1) if three else b1[:, :0])
                three = [f2[:, t + 1] + warp(f1[:, t], f2[:, t + 1]) for t in range(d - 3)]
                ahead[s].append(torch.stack(three, 1) if three else f1[:, :0])
        return back, ahead

    def _near(self, x: Tensor, backward: Tensor, forward: Tensor) -> tuple[Tensor, Tensor]:
        d = x.shape[1]
        nothing = x.new_zeros(x.shape[0], 12, *x.shape[3:])
        after = [warp_nearest4(x[:, t + 1], backward[:, t]) for t in range(d - 1)] + [nothing]
        before = [nothing] + [warp_nearest4(x[:, t - 1], forward[:, t - 1]) for t in range(1, d)]
        return torch.stack(after, 1), torch.stack(before, 1)
