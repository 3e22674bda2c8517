"""What a step computes, moves and holds, read at the moments where a clock would be.

The step loop marks moments and never looks at the marks, so a clock may mark anything that grows: operations
and bytes instead of seconds. The same arithmetic then gives each module its part.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deblurkit.models.flops import flop_counter
from deblurkit.training.profiling.partition import Position

Shape = Sequence[int]

FLOPS, BYTES = 1, 2  # of a WorkClock's positions
_ALLOCATIONS = ("empty", "new_empty")  # make room and touch none of it


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
        """Return (which mark this is, operations, bytes) since the context began."""
        self._moments += 1
        return (float(self._moments), float(self._flops.get_total_flops()), float(self._bytes.moved))

    def elapsed(self, start: Position, end: Position) -> float:
        """Return the operations between two marks."""
        return end[FLOPS] - start[FLOPS]

    def release(self, marks: Iterable[Position]) -> None:
        """Do nothing: numbers need no taking back."""

    def wait(self) -> None:
        """Return at once."""


class _Traffic(TorchDispatchMode):
    """Adds up the bytes that operators read and write, as if nothing stayed in a cache; views move none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        is_view = getattr(func, "is_view", False)
        if not is_view and not func.__name__.startswith(_ALLOCATIONS):
            self.moved += sum(map(_touched_bytes, _tensors((args, kwargs, out))))
        return out


def _touched_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's values; where it repeats some, those of its storage."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, Tensor))


@dataclass(frozen=True)
class Reading:
    """Memory that tensors held [bytes]: at most since the reading before."""

    peak_bytes: int


class MemoryClock:
    """A clock whose marks say how much memory tensors held since the mark before; use it as a context.

    On a GPU the allocator knows. On a CPU every storage that an operator returns is followed to its end;
    what custom operators use inside is not seen.

    Args:
        device: where the step runs.
        kept: tensors that are there already, such as weights and the optimiser's state.
    """

    name = "memory"

    def __init__(self, device: torch.device, kept: Iterable[Tensor]) -> None:
        self._device = device
        self._live = None if device.type == "cuda" else LiveTensors(kept)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> MemoryClock:
        if self._live is not None:
            self._open.enter_context(self._live)
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.close()

    def mark(self) -> Reading:
        """Return the most memory held since the last mark, and begin anew."""
        if self._live is not None:
            return Reading(self._live.take_peak())
        peak = torch.cuda.max_memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        return Reading(peak)

    def elapsed(self, start: Reading, end: Reading) -> float | None:
        """Return None: memory has no duration."""
        return None

    def release(self, marks: Iterable[Reading]) -> None:
        """Do nothing: numbers need no taking back."""

    def wait(self) -> None:
        """Return at once."""


class LiveTensors(TorchDispatchMode):
    """Adds up the storages that are alive, those that were there before and those that operators make."""

    def __init__(self, kept: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen: set[int] = set()
        self.held = self._peak = 0
        for tensor in kept:
            self._meet(tensor.untyped_storage())

    def take_peak(self) -> int:
        """Return the most bytes held since this was asked before."""
        peak, self._peak = self._peak, self.held
        return peak

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self._meet(tensor.untyped_storage())
        return out

    def _meet(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(key)
        self.held += size
        self._peak = max(self._peak, self.held)
        weakref.finalize(storage, self._part, key, size)

    def _part(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.held -= size
