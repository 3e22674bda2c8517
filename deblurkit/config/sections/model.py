"""MODEL: the network; every key with its default, unit, range and reason beside it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from deblurkit.config.sections.values import Count, CountOrZero, FilePath, Flag, Section, Text

StageFlags = Flag | Annotated[tuple[Flag, ...], Field(min_length=8, max_length=8)]


class VrtSection(Section):
    """MODEL.VRT: sizes of the VRT backbone, and what it recomputes in the backward pass."""

    use_checkpoint_attn: StageFlags = Field(
        True, description="Recompute attention instead of keeping it; one flag, or one for each of 8 stages."
    )
    use_checkpoint_ffn: StageFlags = Field(
        True, description="Recompute the feed-forward layers as well; one flag, or one for each of 8 stages."
    )
    embed_dims: tuple[Count, Count] = Field(
        (96, 120), description="Channels of stages 1 to 7, and of stage 8; the published weights have these."
    )
    num_heads: Count = Field(6, description="Attention heads; a divisor of both EMBED_DIMS.")
    pa_frames: Literal[2, 4, 6] = Field(
        2, description="Frames aligned with each frame, both sides together; 2 in the deblurring weights."
    )
    deformable_groups: Count = Field(16, description="Groups of the deformable alignment.")
    indep_reconsts: tuple[CountOrZero, ...] | None = Field(
        None,
        description="Indices into VRT_DEPTHS of the groups of stage 8 that look at single frames;"
        " null: the last two where there are four or more, as published.",
    )
    drop_path_rate: Annotated[float, Field(strict=True, ge=0, lt=1)] = Field(
        0.2, description="Probability at which training skips the last block's branches; it rises from 0."
    )


class AttentionSection(Section):
    """Attention over time at every scale, taken in chunks so that its memory has a bound."""

    heads: Count = Field(4, description="Attention heads; divides every entry of CHANNELS_PER_SCALE.")
    adaptive_chunk: Flag = Field(True, description="Let the chunk grow until MAX_BATCH_TOKENS are in it.")
    max_batch_tokens: Count = Field(
        49152, description="Tokens attended to in one go: more is faster and needs more memory."
    )
    chunk_size: Count = Field(64, description="Side of a chunk [feature pixels].")
    chunk_shape: Literal["square", "row"] = Field("square", description="How the plane is cut into chunks.")


class SpikeTsaSection(AttentionSection):
    """MODEL.SPIKE_TSA: self-attention over time among the spike features."""


class FuseSection(AttentionSection):
    """MODEL.FUSE: how spike features enter the frame features."""

    type: Literal["TemporalCrossAttn"] = Field("TemporalCrossAttn", description="Kind of fusion.")


class ModelSection(Section):
    """MODEL: the network."""

    arch: Literal["baseline", "convnext", "vrt"] = Field(
        "vrt", description="Network; baseline is the lightest, vrt the published transformer with spikes."
    )
    base_channels: Count = Field(64, description="Channels at the finest level of baseline and convnext.")
    num_blocks: Count = Field(4, description="Blocks per level of baseline and convnext.")
    use_spike: Flag = Field(True, description="Feed the spikes; off trains on frames alone, to compare.")
    vrt_cfg: Text | None = Field(
        None, description="Accepted and not used: the network is built from the MODEL keys."
    )
    channels_per_scale: tuple[Count, ...] = Field(
        (96, 96, 96, 96), min_length=1, description="Channels of the spike features, finest scale first."
    )
    layers: Count = Field(
        4, description="Scales of the spike encoder; CHANNELS_PER_SCALE has one entry each."
    )
    vrt_depths: tuple[Count, ...] = Field(
        (8, 8, 8, 8, 4, 4, 4, 8),
        description="Blocks of each VRT stage: 7 stages and 1, 4 or 6 groups of the reconstruction stage.",
    )
    window_size: Count | tuple[Count, Count, Count] = Field(
        8, description="Attention window: height and width [tokens], or [frames, height, width]."
    )
    vrt: VrtSection = Field(default_factory=VrtSection, description="Sizes and recomputation of VRT.")
    spike_tsa: SpikeTsaSection = Field(
        default_factory=SpikeTsaSection, description="Attention over time among spike features."
    )
    fuse: FuseSection = Field(default_factory=FuseSection, description="Fusion of spikes into frames.")
    pretrained: FilePath | None = Field(
        None,
        description="Weights that a new run starts from: published ones of VRT, or a checkpoint of ours.",
    )
    freeze_flow_steps: CountOrZero = Field(
        0,
        description="Steps in which optical flow and alignment keep their weights; VRT took 20000 from a"
        " trained SpyNet. 0: never, as an untrained flow has to learn.",
    )
