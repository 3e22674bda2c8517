"""A short number that tells the weights of a network from others."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def fingerprint(model: nn.Module) -> str:
    """Return 16 hexadecimal digits that follow from the weights and buffers of a network, in order."""
    digest = hashlib.sha256()
    for values in model.state_dict().values():
        plain = values.detach().cpu().contiguous().flatten()
        digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
