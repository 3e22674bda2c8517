"""The architectures by name, and how each is built from the MODEL section."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from deblurkit.errors import ConfigError
from deblurkit.models.blocks import ConvNeXtBlock, ResidualBlock
from deblurkit.models.unet import ClipUNet

if TYPE_CHECKING:
    from deblurkit.config.sections import ModelSection

Builder = Callable[["ModelSection", int], nn.Module]


def _baseline(section: ModelSection, num_voxel_bins: int) -> nn.Module:
    return _light(ResidualBlock, section, num_voxel_bins)


def _convnext(section: ModelSection, num_voxel_bins: int) -> nn.Module:
    return _light(ConvNeXtBlock, section, num_voxel_bins)


def _light(block: Callable[[int], nn.Module], section: ModelSection, num_voxel_bins: int) -> nn.Module:
    return ClipUNet(
        block=block,
        base_channels=section.base_channels,
        num_blocks=section.num_blocks,
        num_voxel_bins=num_voxel_bins if section.use_spike else 0,
    )


ARCHITECTURES: dict[str, Builder] = {"baseline": _baseline, "convnext": _convnext}


def build_model(section: ModelSection, *, num_voxel_bins: int) -> nn.Module:
    """Return a new network; it maps (B, T, 3, H, W) and, with MODEL.USE_SPIKE, (B, T, K, h, w) to a clip.

    Args:
        section: the MODEL section.
        num_voxel_bins: K, the voxel bins of each frame (DATA.NUM_VOXEL_BINS).

    Raises:
        ConfigError: if this version has no such architecture.
    """
    check_architecture(section)
    return ARCHITECTURES[section.arch](section, num_voxel_bins)


def check_architecture(section: ModelSection) -> None:
    """Raise a ConfigError if this version cannot build the architecture."""
    if section.arch not in ARCHITECTURES:
        raise ConfigError(
            [
                f"MODEL.ARCH: {section.arch} is not built in this version;"
                f" choose one of {', '.join(ARCHITECTURES)} (--set MODEL.ARCH=baseline)"
            ]
        )
