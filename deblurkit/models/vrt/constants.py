"""What depends on shapes alone is made once and shared by all blocks that need it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch.utils._python_dispatch import _disable_current_modes

P = ParamSpec("P")
R = TypeVar("R")

_KEPT = 64


def once_per_shape(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function`` with its last results kept, and taken as constants by `torch.compile`.

    The arguments are shapes, numbers, dtypes and devices; nothing writes into a result.
    """

    def made(*args: P.args, **kwargs: P.kwargs) -> R:
        # A training step may be the next to use it, and none of it may be a fake tensor.
        with torch.inference_mode(False), _disable_current_modes():
            return function(*args, **kwargs)

    kept = functools.lru_cache(maxsize=_KEPT)(made)

    def lookup(*args: P.args, **kwargs: P.kwargs) -> R:
        return kept(*args, **kwargs)  # type: ignore[arg-type]

    lookup.cache_clear = kept.cache_clear  # type: ignore[attr-defined]
    lookup.__doc__, lookup.__name__ = function.__doc__, function.__name__
    constant: Callable[P, R] = torch.compiler.assume_constant_result(lookup)
    return constant
