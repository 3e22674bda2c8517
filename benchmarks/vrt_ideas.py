"""What each idea in VRT gains by itself, at the shapes of its finest stages for a clip 6x64x64, on a CPU.

    python benchmarks/vrt_ideas.py [rounds]

Every line is two ways to the same numbers, taking turns; medians, forward + backward unless said otherwise.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from deblurkit.models.vrt.alignment import FlowGuidedAlignment
from deblurkit.models.vrt.flow import ClipFlows, SpyNet, clip_flows
from deblurkit.models.vrt.kernels import biased_attention, from_windows, gated_mlp, to_windows
from deblurkit.models.vrt.windows import window_layout

sys.path.insert(0, str(Path(__file__).parent))
import plain_vrt  # noqa: E402

WINDOWS, TOKENS, HEADS, DIM = 64, 384, 6, 120
SIZE = (6, 64, 64)
Way = Callable[[], object]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.manual_seed(0)
    print("| idea | before [ms] | after [ms] | times faster |\n|---|---:|---:|---:|")
    for name, before, after in (*attention(), *mlp(), *rows(), *alignment(), *flow()):
        taken: list[list[float]] = [[], []]
        for _ in range(rounds + 1):
            for way, seconds in zip((before, after), taken, strict=True):
                start = time.perf_counter()
                way()
                seconds.append(time.perf_counter() - start)
        old, new = (1000 * statistics.median(seconds[1:]) for seconds in taken)
        print(f"| {name} | {old:.1f} | {new:.1f} | {old / new:.2f} |", flush=True)


def attention() -> list[tuple[str, Way, Way]]:
    qkv = torch.randn(WINDOWS, TOKENS, 3 * DIM, requires_grad=True)
    bias = torch.randn(HEADS, TOKENS, TOKENS, requires_grad=True)
    masks = torch.zeros(1, TOKENS, TOKENS)
    grad = torch.randn(WINDOWS, TOKENS, DIM)
    half = torch.zeros(1, TOKENS, TOKENS)
    half[0, : TOKENS // 2, TOKENS // 2 :] = 1
    zero_or_minus_inf = torch.zeros_like(half).masked_fill_(half.bool(), -torch.inf)

    def split() -> Tensor:
        return qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)

    def materialised() -> None:
        q, k, v = split()
        scores = (q * (DIM // HEADS) ** -0.5) @ k.transpose(-2, -1) + bias
        (scores.softmax(-1) @ v).transpose(1, 2).flatten(2).backward(grad)

    def stock() -> None:
        seen = F.scaled_dot_product_attention(*split(), attn_mask=bias.expand(WINDOWS, -1, -1, -1))
        seen.transpose(1, 2).flatten(2).backward(grad)

    def ours(mask: Tensor = masks) -> None:
        biased_attention(qkv, bias, mask, [0, WINDOWS], HEADS)[0].backward(grad)

    return [
        ("attention with bias: materialised -> fused, own backward", materialised, ours),
        ("attention with bias: PyTorch's fused (falls back) -> own backward", stock, ours),
        ("shift mask: -100 (denormals) -> -inf", lambda: ours(-100 * half), lambda: ours(zero_or_minus_inf)),
    ]


def mlp() -> list[tuple[str, Way, Way]]:
    count, hidden = WINDOWS * TOKENS, 2 * DIM
    x = torch.randn(count, DIM, requires_grad=True)
    parts = [torch.randn(hidden, DIM) / 11, torch.randn(hidden, DIM) / 11]
    weights = torch.stack(parts).requires_grad_()
    biases = torch.randn(2, hidden, requires_grad=True)
    last, last_bias = torch.randn(DIM, hidden, requires_grad=True), torch.randn(DIM, requires_grad=True)
    grad = torch.randn(count, DIM)

    def two() -> None:
        first, second = (F.linear(x, weights[i], biases[i]) for i in (0, 1))
        F.linear(F.gelu(first) * second, last, last_bias).backward(grad)

    def one_then_halves() -> None:
        first, second = F.linear(x, weights.flatten(0, 1), biases.flatten()).chunk(2, dim=-1)
        F.linear(F.gelu(first) * second, last, last_bias).backward(grad)

    def ours() -> None:
        gated_mlp(x, weights, biases, last, last_bias).backward(grad)

    return [
        ("GEGLU: two projections -> one product, halves of each row", two, one_then_halves),
        ("GEGLU: two projections -> one batched product, own backward", two, ours),
    ]


def rows() -> list[tuple[str, Way, Way]]:
    x = torch.randn(1, *SIZE, DIM, requires_grad=True)
    layout = window_layout(1, SIZE, (6, 8, 8), shifted=True, device=torch.device("cpu"))
    places = layout.index, layout.inverse, layout.padding

    def roll_and_cut() -> None:
        moved = torch.roll(x, (-4, -4), (2, 3))
        cut = plain_vrt.windows_of(moved, (6, 8, 8))
        joined = plain_vrt.join_windows(cut, (6, 8, 8), x.shape)
        torch.roll(joined, (4, 4), (2, 3)).backward(x.detach())

    def picked() -> None:
        from_windows(to_windows(x.flatten(0, 3), *places), *places).backward(x.detach().flatten(0, 3))

    def made_again() -> None:
        plain_vrt.shift_mask(SIZE, (6, 8, 8), (0, 4, 4))

    def kept() -> None:
        window_layout(1, SIZE, (6, 8, 8), shifted=True, device=torch.device("cpu"))

    return [
        ("windows: roll, cut, join, roll -> rows by index", roll_and_cut, picked),
        ("mask of a shifted block: made -> kept by shape", made_again, kept),
    ]


def alignment() -> list[tuple[str, Way, Way]]:
    dim, groups = 96, 16
    ours, plain = (
        FlowGuidedAlignment(dim, neighbours=1, groups=groups, radius=10.0),
        plain_vrt.Deform(dim, 1, groups, 10.0),
    )
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(1, *SIZE, dim, requires_grad=True)
    frames = x.permute(0, 4, 1, 2, 3)
    backward, forward = torch.randn(1, 5, 2, 64, 64), torch.randn(1, 5, 2, 64, 64)

    def pair_by_pair() -> None:
        after = [plain([frames[:, :, t + 1]], frames[:, :, t], [backward[:, t]]) for t in range(5)]
        before = [plain([frames[:, :, t - 1]], frames[:, :, t], [forward[:, t - 1]]) for t in range(1, 6)]
        torch.stack(after + before).square().mean().backward(retain_graph=True)

    def one_batch() -> None:
        after, before = ours(x, ClipFlows([backward], [forward]))
        (after.square().mean() + before.square().mean()).backward()

    return [
        (
            "alignment: pairs, torchvision's operator -> batch, grid_sample and product",
            pair_by_pair,
            one_batch,
        )
    ]


def flow() -> list[tuple[str, Way, Way]]:
    net, clip = SpyNet(), torch.rand(1, 6, 3, 64, 64)

    def pair_by_pair() -> None:
        pairs = [net(clip[:, t], clip[:, t + 1]) for t in range(5)]
        pairs += [net(clip[:, t + 1], clip[:, t]) for t in range(5)]
        sum(f.square().mean() for pair in pairs for f in pair).backward()  # type: ignore[union-attr]

    def one_batch() -> None:
        flows = clip_flows(net, clip, reach=1)
        sum(f.square().mean() for s in flows for f in (*s.backward, *s.forward)).backward()  # type: ignore[union-attr]

    return [("flow: pair by pair -> one batch", pair_by_pair, one_batch)]


if __name__ == "__main__":
    main()
