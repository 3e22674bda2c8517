"""What a prediction of the host's memory is made of, and what it has to know of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from deblurkit.data.manifest import Storage

HostKind = Literal["private", "shared memory", "pinned", "page cache"]

MEASURED = "measured, benchmarks/host_memory.py"
SPIKE_FRAMES = (
    72  # of an exposure: 9 sharp frames of 8 each, as in the synthetic dataset; GoPro has 56 and more
)


@dataclass(frozen=True)
class HostRow:
    """A part of the memory that a run takes of its machine.

    Attributes:
        name: of what takes it.
        each_bytes: how much each of them takes.
        count: how many there are on the machine.
        kind: ``private`` has to be there; ``shared memory`` has to be there and in /dev/shm; ``pinned`` has
            to be there and is never swapped out; ``page cache`` is given back where memory is short.
        source: how that was found.
    """

    name: str
    each_bytes: int
    count: int
    kind: HostKind
    source: str

    @property
    def bytes(self) -> int:
        """All of them together."""
        return self.each_bytes * self.count


class HostData(NamedTuple):
    """What is known of a dataset.

    Attributes:
        frame_shape: rows and columns of its frames; None where it is not known.
        num_frames: blurry frames that are read, each with its sharp one; None where it is not known.
        storage: how it lies on the disk.
    """

    frame_shape: tuple[int, int] | None
    num_frames: int | None
    storage: Storage

    @property
    def frame_bytes(self) -> int:
        """Bytes of a decoded frame; 0 where its size is not known."""
        return 0 if self.frame_shape is None else 3 * self.frame_shape[0] * self.frame_shape[1]
