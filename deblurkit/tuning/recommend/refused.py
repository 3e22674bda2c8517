"""The least that was too much when tried: what needs as much of the same memory is passed over."""

from __future__ import annotations

from collections.abc import Mapping

from deblurkit.tuning.recommend.records import Candidate, Memory


class Refused:
    """Least bytes that were predicted of what ran out of a memory when tried, by the memory.

    Compiled steps tell nothing of others, nor others of them: both are predicted alike, and hold other
    tensors.
    """

    def __init__(self) -> None:
        self._least: dict[tuple[bool, Memory], int] = {}

    def note(self, candidate: Candidate, memory: Memory, needed: int) -> None:
        """Take in that a candidate, said to need so many bytes, ran out of a memory."""
        kind = candidate.config.train.compile_model, memory
        self._least[kind] = min(needed, self._least.get(kind, needed))

    def for_steps_like(self, candidate: Candidate) -> Mapping[Memory, int]:
        """Return the bytes that are known to be too many for a candidate."""
        compiled = candidate.config.train.compile_model
        return {memory: least for (other, memory), least in self._least.items() if other == compiled}


def too_many(needs: Mapping[Memory, int | None], refused: Mapping[Memory, int]) -> Memory | None:
    """Return the memory of which as much is needed as was too much; None where there is none."""
    for memory, least in refused.items():
        needed = needs[memory]
        if needed is not None and needed >= least:
            return memory
    return None
