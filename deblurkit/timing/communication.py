"""What reducing gradients over the ranks costs, from counters of DistributedDataParallel itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

ROW = "all_reduce"


@dataclass(frozen=True)
class Communication:
    """Times of one backward pass on one rank, in milliseconds.

    Attributes:
        iteration: DDP's number of it.
        forward_ms: the forward pass before it.
        backward_ms: computing gradients.
        communication_ms: from the first bucket to the last one reduced; a rank that is ahead waits in it.
        overlap_ms: the part of it during which gradients were computed.
    """

    iteration: int
    forward_ms: float
    backward_ms: float
    communication_ms: float
    overlap_ms: float

    @property
    def exposed_ms(self) -> float:
        """Communication that nothing was computed beside."""
        return max(0.0, self.communication_ms - self.overlap_ms)


class CommunicationReader:
    """Reads DDP's counters after each step.

    DDP takes the times of its first ten iterations and then of every hundredth; between them there is nothing
    to read. The counters are private to PyTorch: where they are not there, neither is a row.

    Args:
        called: gives the module that the last step has called, which a run may wrap anew on its way;
            anything but DistributedDataParallel gives nothing.
    """

    def __init__(self, called: Callable[[], nn.Module]) -> None:
        self._called = called
        self._module: nn.Module | None = None
        self._seen = -1

    def read(self) -> Communication | None:
        """Return the times of the last iteration if they were taken and not read before."""
        module = self._called()
        counters = getattr(module, "_get_ddp_logging_data", None)
        if counters is None:
            return None
        if module is not self._module:
            self._module, self._seen = module, -1
        try:
            found = _from_counters(counters())
        except (KeyError, TypeError, ValueError, RuntimeError):  # of the first iteration nothing is known
            return None
        if found.iteration <= self._seen:
            return None
        self._seen = found.iteration
        return found


def _from_counters(counters: Mapping[str, Any]) -> Communication:
    """Return DDP's counters, which are in nanoseconds."""

    def milliseconds(name: str) -> float:
        return max(0, int(counters[name])) / 1e6

    return Communication(
        iteration=int(counters["iteration"]),
        forward_ms=milliseconds("forward_compute_time"),
        backward_ms=milliseconds("backward_compute_time"),
        communication_ms=milliseconds("backward_comm_time"),
        overlap_ms=milliseconds("backward_compute_comm_overlap_time"),
    )
