"""What a step computes and moves, read at the moments where a clock would be.

The step loop marks moments and never looks at the marks, so a clock may mark anything that grows: operations
and bytes instead of seconds (`memory.tensors` marks what is held). The same arithmetic then gives each module
its part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from deblurkit.models.flops import flop_counter
from deblurkit.timing.module_times import tensors_in
from deblurkit.training.profiling.partition import Position

Shape = Sequence[int]

FLOPS, BYTES, CALLS = 1, 2, 3  # of a WorkClock's positions
_ALLOCATIONS = ("empty", "new_empty")  # make room and touch none of it
_DEVICE = torch.ops.prim.device.default  # asked of fake tensors at every turn: no work


class WorkClock:
    """A clock whose marks are the operations and the bytes moved until then; use it as a context."""

    name = "work"

    def __init__(self) -> None:
        self._moments = 0
        self._bytes = _Traffic()
        self._flops = flop_counter()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> WorkClock:
        self._open.enter_context(self._bytes)
        self._open.enter_context(self._flops)
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.close()

    def mark(self) -> Position:
        """Return (which mark this is, operations, bytes, calls of operators) since the context began."""
        self._moments += 1
        operations, traffic = self._flops.get_total_flops(), self._bytes
        return (float(self._moments), float(operations), float(traffic.moved), float(traffic.calls))

    def elapsed(self, start: Position, end: Position) -> float:
        """Return the operations between two marks."""
        return end[FLOPS] - start[FLOPS]

    def release(self, marks: Iterable[Position]) -> None:
        """Do nothing: numbers need no taking back."""

    def wait(self) -> None:
        """Return at once."""


class _Traffic(TorchDispatchMode):
    """Adds up the bytes that operators read and write, as if nothing stayed in a cache; views move none.

    Attributes:
        moved: bytes.
        calls: of these operators.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved = 0
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        out = func(*args, **(kwargs or {}))
        is_view = getattr(func, "is_view", False)
        if not is_view and not func.__name__.startswith(_ALLOCATIONS):
            self.moved += sum(map(_touched_bytes, tensors_in((args, kwargs, out))))
            self.calls += 1
        return out


def _touched_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's values; where it repeats some, those of its storage."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
