"""The light networks of seed 004: a U-Net over a clip, fed with spike voxels; `baseline` and `convnext`."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from deblurkit.models.blocks import TemporalMix
from deblurkit.models.padding import pad_to_multiple

LEVELS = 3
PATCH = 2  # pixels per side of a token at the finest level: where a half-resolution spike camera looks
MULTIPLE = PATCH * 2 ** (LEVELS - 1)


class ClipUNet(nn.Module):
    """A residual U-Net over the frames of a clip, with the clip's spikes added at its finest level.

    B clips, T frames, H x W pixels, K voxel bins, h x w spike pixels, C base channels. The finest level works
    on 2x2 patches (H/2 x W/2), where GoPro's simulated spike cameras have one pixel; spikes of any other size
    are resized to it. Every level mixes neighbouring frames before it goes down. The last layer starts at
    zero, so that an untrained network returns the blurry clip.

    Args:
        block: makes a block for a number of channels.
        base_channels: C; the levels have C, 2C and 4C.
        num_blocks: blocks in each level on the way down, and again on the way up.
        num_voxel_bins: K, or 0 for a network without spikes.
    """

    def __init__(
        self,
        *,
        block: Callable[[int], nn.Module],
        base_channels: int,
        num_blocks: int,
        num_voxel_bins: int,
    ) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(LEVELS)]
        self.num_voxel_bins = num_voxel_bins
        self.frames_in = nn.Conv2d(3 * PATCH**2, base_channels, 3, padding=1)
        if num_voxel_bins > 0:
            self.spikes_in = nn.Sequential(
                nn.Conv2d(num_voxel_bins, base_channels, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(base_channels, base_channels, 3, padding=1),
            )
        self.mixers = nn.ModuleList([TemporalMix(width) for width in widths])
        self.encoders = nn.ModuleList([_chain(block, width, num_blocks) for width in widths])
        self.downs = nn.ModuleList([nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1]])
        self.ups = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(2 * w, 4 * w, 1), nn.PixelShuffle(2)) for w in widths[:-1]]
        )
        self.decoders = nn.ModuleList([_chain(block, width, num_blocks) for width in widths[:-1]])
        self.frames_out = nn.Conv2d(base_channels, 3 * PATCH**2, 3, padding=1)
        nn.init.zeros_(self.frames_out.weight)
        nn.init.zeros_(self.frames_out.bias)  # type: ignore[arg-type]

    def forward(self, blurry: Tensor, spikes: Tensor | None = None) -> Tensor:
        """Return the restored clip: (B, T, 3, H, W) in [0, 1], (B, T, K, h, w) -> (B, T, 3, H, W).

        Raises:
            ValueError: if the network takes spikes and got none, or the other way round.
        """
        if (spikes is None) != (self.num_voxel_bins == 0):
            wanted = f"{self.num_voxel_bins} voxel bins" if self.num_voxel_bins else "no spikes"
            raise ValueError(f"this network takes {wanted}, and got {'none' if spikes is None else 'spikes'}")
        height, width = blurry.shape[-2:]
        padded = pad_to_multiple(blurry, MULTIPLE)
        features = self.frames_in(F.pixel_unshuffle(padded.flatten(0, 1), PATCH))  # (BT, C, H/2, W/2)
        if spikes is not None:
            covered = -(-height // PATCH), -(-width // PATCH)  # what the sensor saw: not the padding
            features = features + self._spike_features(spikes, covered=covered, size=features.shape[-2:])
        features = self._refine(features, clip=blurry.shape[:2])
        residual = F.pixel_shuffle(self.frames_out(features), PATCH)[..., :height, :width]
        return blurry + residual.unflatten(0, blurry.shape[:2])

    def _spike_features(self, spikes: Tensor, *, covered: tuple[int, int], size: tuple[int, ...]) -> Tensor:
        """Return (B, T, K, h, w) as features of ``covered`` tokens, padded to ``size`` as the frames are."""
        features = self.spikes_in(spikes.flatten(0, 1))  # (BT, C, h, w)
        if features.shape[-2:] != covered:
            features = F.interpolate(features, size=list(covered), mode="bilinear", align_corners=False)
        bottom, right = size[0] - covered[0], size[1] - covered[1]
        return F.pad(features, (0, right, 0, bottom), mode="replicate")

    def _refine(self, features: Tensor, *, clip: tuple[int, ...]) -> Tensor:
        """Go down the levels and up again: (BT, C, H/2, W/2) -> the same."""
        skips = []
        for level, (mixer, encoder) in enumerate(zip(self.mixers, self.encoders, strict=True)):
            features = encoder(mixer(features.unflatten(0, clip)).flatten(0, 1))
            if level < len(self.downs):
                skips.append(features)
                features = self.downs[level](features)
        for level in reversed(range(len(self.ups))):
            features = self.decoders[level](self.ups[level](features) + skips[level])
        return features


def _chain(block: Callable[[int], nn.Module], channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*[block(channels) for _ in range(count)])
