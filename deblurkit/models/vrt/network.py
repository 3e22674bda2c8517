"""VRT: a clip of blurry frames in, the clip of sharp frames out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deblurkit.models.padding import pad_to_multiple
from deblurkit.models.vrt.flow import SCALES, SMALLEST_SIDE, ClipFlows, SpyNet, clip_flows
from deblurkit.models.vrt.half import in_float32, where_it_pays
from deblurkit.models.vrt.stages import Entry, ReconstructionGroup, Stage
from deblurkit.models.vrt.warping import warp_nearest4
from deblurkit.models.vrt.windows import Triple

STAGES: tuple[tuple[Entry, int], ...] = (
    ("same", 1), ("down", 2), ("down", 4), ("down", 8), ("up", 4), ("up", 2), ("up", 1),
)  # fmt: skip
FINE_STAGE = len(STAGES)  # index of the first group of stage 8
COARSEST = SCALES[-1]
LARGEST_OFFSET = 10  # pixels of the input


class VRT(nn.Module):
    """Video Restoration Transformer, Liang et al., arXiv:2201.12288, with the published names of weights.

    B clips, D frames, H x W pixels, E channels. Written from the paper and a description of the published
    checkpoints; what differs from those is how it computes, not what.

    Args:
        window_size: frames, rows, columns of an attention window in tokens; an integer n is (6, n, n).
        depths: blocks of stages 1 to 7 and of every group of stage 8.
        indep_reconsts: indices into ``depths`` of the groups whose windows span one frame.
        embed_dims: channels for every entry of ``depths``.
        num_heads: attention heads, likewise.
        pa_frames: frames aligned with each frame, both sides together: 2, 4 or 6.
        deformable_groups: of the alignment.
        drop_path_rate: of the last block; the rates rise from 0.
        use_checkpoint_attn: recompute attention in the backward pass; one flag, or one for each of 8 stages.
        use_checkpoint_ffn: the same for the MLPs.

    Raises:
        ValueError: if the arguments do not fit each other.
    """

    num_voxel_bins = 0

    def __init__(
        self,
        *,
        window_size: int | Sequence[int] = (6, 8, 8),
        depths: Sequence[int] = (8, 8, 8, 8, 8, 8, 8, 4, 4, 4, 4),
        indep_reconsts: Sequence[int] = (9, 10),
        embed_dims: Sequence[int] = (96, 96, 96, 96, 96, 96, 96, 120, 120, 120, 120),
        num_heads: Sequence[int] = (6,) * 11,
        pa_frames: int = 2,
        deformable_groups: int = 16,
        drop_path_rate: float = 0.2,
        use_checkpoint_attn: bool | Sequence[bool] = False,
        use_checkpoint_ffn: bool | Sequence[bool] = False,
    ) -> None:
        super().__init__()
        self.window = attention_window(window_size)
        _check_sizes(depths, embed_dims, num_heads, indep_reconsts)
        _check_alignment(embed_dims, pa_frames, deformable_groups)
        self.reach = pa_frames // 2
        attention = self.recomputed_attention = _per_stage(use_checkpoint_attn, "use_checkpoint_attn")
        mlp = _per_stage(use_checkpoint_ffn, "use_checkpoint_ffn")
        rates = _drop_paths(drop_path_rate, depths)
        self.conv_first = nn.Conv3d(27, embed_dims[0], (1, 3, 3), padding=(0, 1, 1))
        self.spynet = SpyNet()
        for i, (entry, scale) in enumerate(STAGES):
            stage = Stage(
                entry,
                dim_in=embed_dims[max(0, i - 1)],
                dim=embed_dims[i],
                window=self.window,
                num_heads=num_heads[i],
                drop_paths=rates[i],
                neighbours=self.reach,
                deformable_groups=deformable_groups,
                radius=LARGEST_OFFSET / scale,
                checkpoint_attention=attention[i],
                checkpoint_mlp=mlp[i],
            )
            self.add_module(f"stage{i + 1}", stage)
        before, dim = embed_dims[FINE_STAGE - 1], embed_dims[FINE_STAGE]
        self.stage8 = nn.Sequential(
            nn.Sequential(nn.Identity(), nn.LayerNorm(before), nn.Linear(before, dim)),
            *[
                ReconstructionGroup(
                    embed_dims[i],
                    window=(1, *self.window[1:]) if i in indep_reconsts else self.window,
                    num_heads=num_heads[i],
                    drop_paths=rates[i],
                    checkpoint_attention=attention[FINE_STAGE],
                    checkpoint_mlp=mlp[FINE_STAGE],
                )
                for i in range(FINE_STAGE, len(depths))
            ],
        )
        self.norm = nn.LayerNorm(embed_dims[-1])
        self.conv_after_body = nn.Linear(embed_dims[-1], embed_dims[0])
        self.conv_last = nn.Conv3d(embed_dims[0], 3, (1, 3, 3), padding=(0, 1, 1))
        nn.init.normal_(self.conv_last.weight, std=0.01)  # an untrained network stays near the blurry clip
        nn.init.zeros_(self.conv_last.bias)  # type: ignore[arg-type]

    def forward(self, blurry: Tensor, spikes: None = None) -> Tensor:
        """Return the restored clip: (B, D, 3, H, W) in [0, 1] -> (B, D, 3, H, W).

        Sides that are no multiple of 8 are padded by repeating the border, and the result is cut.

        Raises:
            ValueError: if the clip is shorter than 2 frames or a side is too small.
        """
        if spikes is not None:
            raise ValueError("this network takes no spikes, and got some")
        self._check_clip(blurry)
        height, width = blurry.shape[-2:]
        with where_it_pays(blurry.device):
            return self._restore(pad_to_multiple(blurry, COARSEST), spike_features=[])[..., :height, :width]

    def _restore(self, clip: Tensor, *, spike_features: list[Tensor]) -> Tensor:
        """Restore a clip of sides that divide by 8; stages 1 to 4 see the spike features of their scale."""
        with in_float32(clip.device):
            flows = clip_flows(self.spynet, clip.to(self.spynet.mean.dtype), reach=self.reach)
            near = _neighbours(clip, flows[0])
        features = self.conv_first(near.transpose(1, 2)).permute(0, 2, 3, 4, 1)  # (B, D, H, W, E)
        deep = self.conv_after_body(self.norm(self._deep(features, flows, spike_features)))
        features = (features + deep).permute(0, 4, 1, 2, 3)
        return self.conv_last(features).transpose(1, 2) + clip

    def _deep(self, x: Tensor, flows: list[ClipFlows], spike_features: list[Tensor]) -> Tensor:
        """Run the stages: (B, D, H, W, E) -> (B, D, H, W, E of the last group)."""
        skips = []
        for number in range(1, 5):
            x = self._stage(number)(x, flows[number - 1])
            if spike_features:
                x = self._fuse(number, x, spike_features)
            skips.append(x)
        for number, skip in zip((5, 6, 7), reversed(skips[:3]), strict=True):
            x = self._stage(number)(x, flows[7 - number]) + skip
        return self.stage8(x)

    def _fuse(self, number: int, x: Tensor, spike_features: list[Tensor]) -> Tensor:
        """Return the tokens after stage ``number``, 1 to 4, with the spikes of their scale."""
        raise NotImplementedError

    def _stage(self, number: int) -> nn.Module:
        return self.get_submodule(f"stage{number}")

    def _check_clip(self, clip: Tensor) -> None:
        if clip.ndim != 5 or clip.shape[2] != 3:
            raise ValueError(f"expected a clip (B, D, 3, H, W), got {tuple(clip.shape)}")
        depth, height, width = clip.shape[1], *clip.shape[-2:]
        if depth < 2:
            raise ValueError(f"VRT aligns neighbouring frames: expected a clip of at least 2, got {depth}")
        least = smallest_frame(self.window[1:])
        if height < least[0] or width < least[1]:
            raise ValueError(
                f"expected frames of at least {least[0]} x {least[1]} px for windows of"
                f" {self.window[1]} x {self.window[2]} tokens at 1/{COARSEST} of it, got {height} x {width}"
            )


def smallest_frame(window: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest height and width [px] for windows of so many rows and columns of tokens."""
    return max(SMALLEST_SIDE, COARSEST * window[0]), max(SMALLEST_SIDE, COARSEST * window[1])


def _neighbours(clip: Tensor, flows: ClipFlows) -> Tensor:
    """Return each frame with the pixels around where its neighbours' flows point: (B, D, 27, H, W)."""
    batch, depth = clip.shape[:2]
    near = torch.cat([clip[:, 1:], clip[:, :-1]]).flatten(0, 1)
    flow = torch.cat([flows.backward[0], flows.forward[0]]).flatten(0, 1)
    warped = warp_nearest4(near, flow.detach()).unflatten(0, (2, batch, depth - 1))
    nothing = warped.new_zeros(batch, 1, *warped.shape[-3:])
    after, before = torch.cat([warped[0], nothing], dim=1), torch.cat([nothing, warped[1]], dim=1)
    return torch.cat([clip, after, before], dim=2)


def attention_window(size: int | Sequence[int]) -> Triple:
    """Return the window as frames, rows, columns; an integer n means (6, n, n)."""
    sides = (6, size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 3 or min(sides) < 1:
        raise ValueError(f"window_size: expected an integer or three, each of at least 1, got {size}")
    return sides[0], sides[1], sides[2]


def _check_sizes(
    depths: Sequence[int], embed_dims: Sequence[int], num_heads: Sequence[int], indep_reconsts: Sequence[int]
) -> None:
    if len(depths) <= FINE_STAGE:
        raise ValueError(f"depths: expected 7 stages and a group of stage 8 or more, got {len(depths)}")
    for name, values in (("embed_dims", embed_dims), ("num_heads", num_heads)):
        if len(values) != len(depths):
            raise ValueError(
                f"{name}: expected {len(depths)} values, one for each of depths, got {len(values)}"
            )
    if min(depths) < 1:
        raise ValueError(f"depths: expected at least 1 block everywhere, got {min(depths)}")
    for dim, heads in zip(embed_dims, num_heads, strict=True):
        if min(dim, heads) < 1 or dim % heads or dim % 4:
            raise ValueError(f"embed_dims: expected multiples of 4 and of the {heads} heads, got {dim}")
    if len(set(embed_dims[:FINE_STAGE])) > 1 or len(set(embed_dims[FINE_STAGE:])) > 1:
        raise ValueError(
            "embed_dims: stages 1 to 7 are added to each other, and so are stage 8's groups; expected one"
            f" width for each of the two, got {tuple(embed_dims)}"
        )
    outside = [i for i in indep_reconsts if not FINE_STAGE <= i < len(depths)]
    if outside:
        raise ValueError(
            f"indep_reconsts: expected indices of stage 8's groups ({FINE_STAGE} to {len(depths) - 1}),"
            f" got {outside[0]}"
        )


def _check_alignment(embed_dims: Sequence[int], pa_frames: int, groups: int) -> None:
    if pa_frames not in (2, 4, 6):
        raise ValueError(f"pa_frames: expected 2, 4 or 6, got {pa_frames}")
    neighbours, dim = pa_frames // 2, embed_dims[0]
    if dim % neighbours:
        raise ValueError(
            f"embed_dims: expected a multiple of the {neighbours} frames aligned on a side, got {dim}"
        )
    if groups < 1 or neighbours * dim % groups:
        raise ValueError(
            f"deformable_groups: expected a divisor of {neighbours} neighbours x {dim} channels, got {groups}"
        )
    if 9 * groups % neighbours:
        raise ValueError(
            f"deformable_groups: expected a multiple of {neighbours}, so that each neighbour moves as many"
            f" taps, got {groups}"
        )


def _per_stage(flags: bool | Sequence[bool], name: str) -> list[bool]:
    """Return a flag for each of the eight stages."""
    if isinstance(flags, int):
        return [bool(flags)] * (FINE_STAGE + 1)
    if len(flags) != FINE_STAGE + 1:
        raise ValueError(
            f"{name}: expected one flag or {FINE_STAGE + 1}, one for each stage, got {len(flags)}"
        )
    return list(flags)


def _drop_paths(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Return the rate of every block, rising evenly from 0 to ``rate``."""
    if not 0 <= rate < 1:
        raise ValueError(f"drop_path_rate: expected a probability from 0 and below 1, got {rate}")
    total, start, rates = sum(depths), 0, []
    for depth in depths:
        rates.append([rate * i / max(1, total - 1) for i in range(start, start + depth)])
        start += depth
    return rates
