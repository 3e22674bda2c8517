"""The architectures by name, and how each is built from the MODEL section."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

from deblurkit.models.blocks import ConvNeXtBlock, ResidualBlock
from deblurkit.models.unet import ClipUNet
from deblurkit.models.vrt.network import FINE_STAGE, VRT, attention_window, smallest_frame
from deblurkit.models.vrt.spike_network import SpikeVRT
from deblurkit.models.vrt.spikes import ChunkPlan

if TYPE_CHECKING:
    from deblurkit.config.sections.model import AttentionSection, ModelSection

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


def _vrt(section: ModelSection, num_voxel_bins: int) -> nn.Module:
    """Return VRT, or VRT with a spike branch, of the sizes that the section asks for."""
    if not section.use_spike:
        return VRT(**_vrt_arguments(section))
    return SpikeVRT(
        num_voxel_bins=num_voxel_bins,
        channels_per_scale=section.channels_per_scale,
        attention_heads=section.spike_tsa.heads,
        attention_plan=_chunk_plan(section.spike_tsa),
        fusion_heads=section.fuse.heads,
        fusion_plan=_chunk_plan(section.fuse),
        **_vrt_arguments(section),
    )


def _vrt_arguments(section: ModelSection) -> dict[str, Any]:
    vrt, depths = section.vrt, section.vrt_depths
    groups = len(depths) - FINE_STAGE
    independent = vrt.indep_reconsts
    if independent is None:
        independent = tuple(range(len(depths) - 2, len(depths))) if groups >= 4 else ()
    return {
        "window_size": section.window_size,
        "depths": depths,
        "indep_reconsts": independent,
        "embed_dims": (vrt.embed_dims[0],) * FINE_STAGE + (vrt.embed_dims[1],) * groups,
        "num_heads": (vrt.num_heads,) * len(depths),
        "pa_frames": vrt.pa_frames,
        "deformable_groups": vrt.deformable_groups,
        "drop_path_rate": vrt.drop_path_rate,
        "use_checkpoint_attn": vrt.use_checkpoint_attn,
        "use_checkpoint_ffn": vrt.use_checkpoint_ffn,
    }


def _chunk_plan(section: AttentionSection) -> ChunkPlan:
    return ChunkPlan(
        adaptive=section.adaptive_chunk,
        max_tokens=section.max_batch_tokens,
        size=section.chunk_size,
        shape=section.chunk_shape,
    )


ARCHITECTURES: dict[str, Builder] = {"baseline": _baseline, "convnext": _convnext, "vrt": _vrt}


def build_model(section: ModelSection, *, num_voxel_bins: int) -> nn.Module:
    """Return a new network; it maps (B, T, 3, H, W) and, with MODEL.USE_SPIKE, (B, T, K, h, w) to a clip.

    Args:
        section: the MODEL section, as the configuration's checks have passed it.
        num_voxel_bins: K, the voxel bins of each frame (DATA.NUM_VOXEL_BINS).
    """
    return ARCHITECTURES[section.arch](section, num_voxel_bins)


def smallest_clip(section: ModelSection) -> tuple[int, int, int]:
    """Return the fewest frames and the smallest height and width [px] that the network can restore."""
    if section.arch != "vrt":
        return 1, 1, 1
    _, rows, columns = attention_window(section.window_size)
    return 2, *smallest_frame((rows, columns))
