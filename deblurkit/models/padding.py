"""Clips padded to sizes that a network's coarsest scale divides."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(clip: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of (B, T, C, H, W) until both sides divide by ``multiple``."""
    bottom, right = -clip.shape[-2] % multiple, -clip.shape[-1] % multiple
    if not bottom and not right:
        return clip
    padded = F.pad(clip.flatten(0, 1), (0, right, 0, bottom), mode="replicate")
    return padded.unflatten(0, clip.shape[:2])
