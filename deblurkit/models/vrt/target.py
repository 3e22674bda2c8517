"""For what a network computes, where that is not the numbers on the device that its tensors are on.

What a GPU would hold is worked out on CPU shapes; where the code takes another way there, it asks here. So it
does where it works piece by piece, as shapes alone need not go through all of them.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")

_pretended: str | None = None  # a plain global: `torch.compile` can look at it
_shapes_only = False


def device_kind(device: torch.device) -> str:
    """Return the type of ``device``, or the one that `as_if_on` puts in its place."""
    return _pretended or device.type


@contextlib.contextmanager
def as_if_on(kind: str) -> Iterator[None]:
    """Have chunks and autocast as on a device of this kind inside the block, wherever the tensors are."""
    global _pretended
    before, _pretended = _pretended, kind
    try:
        yield
    finally:
        _pretended = before


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Inside the block nobody looks at numbers, only at what tensors there are."""
    global _shapes_only
    before, _shapes_only = _shapes_only, True
    try:
        yield
    finally:
        _shapes_only = before


def needed(pieces: Iterable[T]) -> Iterable[T]:
    """Return ``pieces``, which fill a result one after the other; of shapes alone, the first two of them.

    They are alike, and the first is the largest; in the second, what the first has left is still there.
    """
    return itertools.islice(pieces, 2) if _shapes_only else pieces
