"""VRT with a spike camera: the published network, and a branch that starts by changing nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deblurkit.models.padding import pad_to_multiple
from deblurkit.models.vrt.half import where_it_pays
from deblurkit.models.vrt.network import COARSEST, VRT
from deblurkit.models.vrt.spikes import ChunkPlan, SpikeEncoder3D, SpikeTemporalSA, TemporalCrossAttn

SPIKE_SCALES = 4  # stages 1 to 4 take in spikes


class SpikeVRT(VRT):
    """`VRT` whose stages 1 to 4 each attend to the spikes of their scale.

    B clips, D frames, H x W pixels, K voxel bins, h x w spike pixels. The names of VRT's own weights are the
    published ones; the branch's begin with ``spike_encoder``, ``spike_attention`` and ``fusion``.

    Args:
        num_voxel_bins: K.
        channels_per_scale: channels of the spike features at 1, 1/2, 1/4 and 1/8.
        attention_heads, attention_plan: of the attention over time among spike features.
        fusion_heads, fusion_plan: of the attention of frames to spikes.
        **vrt: the arguments of `VRT`.
    """

    def __init__(
        self,
        *,
        num_voxel_bins: int,
        channels_per_scale: Sequence[int],
        attention_heads: int,
        attention_plan: ChunkPlan,
        fusion_heads: int,
        fusion_plan: ChunkPlan,
        **vrt: Any,
    ) -> None:
        super().__init__(**vrt)
        if len(channels_per_scale) != SPIKE_SCALES:
            raise ValueError(
                f"channels_per_scale: expected {SPIKE_SCALES} values, one for each of stages 1 to 4,"
                f" got {len(channels_per_scale)}"
            )
        self.num_voxel_bins = num_voxel_bins
        self.spike_encoder = SpikeEncoder3D(num_voxel_bins, channels=channels_per_scale)
        widths = list(zip(channels_per_scale, self.recomputed_attention, strict=False))
        self.spike_attention = nn.ModuleList(
            [
                SpikeTemporalSA(width, num_heads=attention_heads, plan=attention_plan, recompute=recompute)
                for width, recompute in widths
            ]
        )
        dim = self.conv_first.out_channels
        self.fusion = nn.ModuleList(
            [
                TemporalCrossAttn(
                    dim, spike_dim=width, num_heads=fusion_heads, plan=fusion_plan, recompute=recompute
                )
                for width, recompute in widths
            ]
        )

    def forward(self, blurry: Tensor, spikes: Tensor | None = None) -> Tensor:
        """Return the restored clip: (B, D, 3, H, W) in [0, 1], (B, D, K, h, w) -> (B, D, 3, H, W).

        Raises:
            ValueError: if the clip is too small for `VRT`, or the voxels are missing or of another clip.
        """
        self._check_clip(blurry)
        self._check_voxels(blurry, spikes)
        assert spikes is not None
        height, width = blurry.shape[-2:]
        padded = pad_to_multiple(blurry, COARSEST)
        with where_it_pays(blurry.device):
            features = self._spike_features(spikes, padded=padded.shape[-2:], covered=(height, width))
            return self._restore(padded, spike_features=features)[..., :height, :width]

    def _spike_features(
        self, spikes: Tensor, *, padded: torch.Size, covered: tuple[int, int]
    ) -> list[Tensor]:
        """Return the features of every scale, refined over time."""
        encoded = self.spike_encoder(spikes, frame_size=(padded[0], padded[1]), covered=covered)
        return [attend(features) for attend, features in zip(self.spike_attention, encoded, strict=True)]

    def _fuse(self, number: int, x: Tensor, spike_features: list[Tensor]) -> Tensor:
        return self.fusion[number - 1](x, spike_features[number - 1])

    def _check_voxels(self, blurry: Tensor, spikes: Tensor | None) -> None:
        expected = (*blurry.shape[:2], self.num_voxel_bins)
        if spikes is None or spikes.ndim != 5 or tuple(spikes.shape[:3]) != expected:
            got = "none" if spikes is None else str(tuple(spikes.shape))
            raise ValueError(
                f"this network takes spike voxels ({', '.join(map(str, expected))}, h, w), got {got}"
            )
