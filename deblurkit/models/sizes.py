"""The sizes in the configuration that weights were made with, as far as their shapes tell them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from torch import Tensor

from deblurkit.models.parts import part_of

Weights = Mapping[str, Tensor]
Sizes = dict[str, object]

_BLOCK = re.compile(r"stage(\d)\.(?:(\d+)\.)?residual_group\d?\.blocks\.\d+\.")
_GROUP_TABLE = re.compile(r"stage8\.(\d+)\.residual_group\.blocks\.0\.attn\.relative_position_bias_table")
_LIGHT_BLOCK = re.compile(r"encoders\.0\.(\d+)\.")
_FIRST = "stage1.residual_group2.blocks.0.attn."  # of the whole window, whatever INDEP_RECONSTS is
_TAPS = 27  # of a deformable group: two offsets and a mask for each of nine
_FIRST_GROUP = 7  # index into VRT_DEPTHS
SPIKE_SCALES = 4


def sizes_of(weights: Weights) -> Sizes:
    """Return values by configuration key: those that can be told, and none for another kind of network."""
    if "conv_first.weight" in weights and "conv_after_body.weight" in weights:
        return {"MODEL.ARCH": "vrt", **_vrt(weights), **_spikes(weights)}
    if "frames_in.weight" in weights and "frames_out.weight" in weights:
        return _light(weights)
    return {}


def depths_of(weights: Weights) -> list[int]:
    """Return the blocks of each stage of VRT, and of each group of stage 8."""
    found = (_BLOCK.match(key) for key in weights)
    blocks = {block[0]: (int(block[1]), int(block[2] or 0)) for block in found if block}
    return [count for _, count in sorted(Counter(blocks.values()).items())]


def window_of(index: Tensor) -> list[int] | None:
    """Return the sides of the window that a table of relative positions (L, L) belongs to.

    Tokens are numbered row by row, and the first row of the table falls by one per token: by more where a
    row, and again where a frame, is over.
    """
    tokens = index.shape[0]
    if index.ndim != 2 or index.shape[1] != tokens or index.is_meta or not tokens:
        return None
    fallen = (index[0, 0] - index[0]).tolist()
    width = next((n for n in range(1, tokens) if fallen[n] != n), tokens)
    row = 2 * width - 1
    height = next((n for n in range(1, tokens // width) if fallen[n * width] != n * row), tokens // width)
    frames = tokens // (width * height)
    return [frames, height, width] if frames * height * width == tokens else None


def _vrt(weights: Weights) -> Sizes:
    """Return the sizes of the backbone; a key is left out where its weight is missing or strange."""
    dims = list(weights["conv_after_body.weight"].shape)
    sizes: Sizes = {"MODEL.VRT.EMBED_DIMS": dims} if len(dims) == 2 else {}
    sizes["MODEL.VRT_DEPTHS"] = depths_of(weights)
    table, index = (weights.get(f"{_FIRST}relative_position_{kind}") for kind in ("bias_table", "index"))
    if index is not None and (window := window_of(index)) is not None:
        sizes["MODEL.WINDOW_SIZE"] = window
    if table is not None and table.ndim == 2:
        sizes["MODEL.VRT.NUM_HEADS"] = table.shape[1]
        sizes["MODEL.VRT.INDEP_RECONSTS"] = _single_frame_groups(weights, table.shape[0])
    offsets = weights.get("stage1.pa_deform.conv_offset.6.bias")
    if offsets is not None:
        sizes["MODEL.VRT.DEFORMABLE_GROUPS"] = offsets.shape[0] // _TAPS
    return sizes | _aligned_frames(weights)


def _single_frame_groups(weights: Weights, whole: int) -> list[int]:
    """Return the groups of stage 8 whose tables are shorter than ``whole``, that of the whole window."""
    tables = {
        int(found[1]) - 1 + _FIRST_GROUP: value
        for key, value in weights.items()
        if (found := _GROUP_TABLE.fullmatch(key))
    }
    return sorted(group for group, table in tables.items() if table.shape[0] < whole)


def _aligned_frames(weights: Weights) -> Sizes:
    """Return PA_FRAMES: the first layer of the offsets sees a frame, and n neighbours with their flows."""
    first = weights.get("stage1.pa_deform.conv_offset.0.weight")
    if first is None or first.ndim != 4:
        return {}
    dim, seen = first.shape[:2]
    neighbours, rest = divmod(seen - dim, dim + 2)
    return {} if rest else {"MODEL.VRT.PA_FRAMES": 2 * neighbours}


def _spikes(weights: Weights) -> Sizes:
    """Return the sizes of VRT's spike branch, nothing where there is none: it need not be in a file."""
    if not any(part_of(key) == "spikes" for key in weights):
        return {}
    sizes: Sizes = {"MODEL.USE_SPIKE": True}
    embed = weights.get("spike_encoder.embed.weight")
    if embed is not None:
        sizes["DATA.NUM_VOXEL_BINS"] = embed.shape[1]
    scales = [weights.get(f"spike_encoder.blocks.{scale}.plane.weight") for scale in range(SPIKE_SCALES)]
    if all(scale is not None for scale in scales):
        sizes["MODEL.CHANNELS_PER_SCALE"] = [scale.shape[0] for scale in scales if scale is not None]
    return sizes


def _light(weights: Weights) -> Sizes:
    spikes = weights.get("spikes_in.0.weight")
    blocks = {found[1] for key in weights if (found := _LIGHT_BLOCK.match(key))}
    sizes: Sizes = {
        "MODEL.ARCH": "convnext" if "encoders.0.0.depthwise.weight" in weights else "baseline",
        "MODEL.BASE_CHANNELS": weights["frames_in.weight"].shape[0],
        "MODEL.NUM_BLOCKS": len(blocks),
        "MODEL.USE_SPIKE": spikes is not None,
    }
    return sizes if spikes is None else sizes | {"DATA.NUM_VOXEL_BINS": spikes.shape[1]}
