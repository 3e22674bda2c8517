"""Which part of a held-out split each rank restores and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deblurkit.data.clips import EvaluationClips, EvaluationPart
from deblurkit.training.distributed import Ranks


@dataclass(frozen=True)
class Share:
    """What one rank restores.

    Attributes:
        batches: parts to load, in order; the first ones may be only for the frames they share with others.
        owned: parts whose frames this rank scores.
    """

    batches: list[list[int]]
    owned: frozenset[int]


def share_of(clips: EvaluationClips, batches: Sequence[Sequence[int]], ranks: Ranks) -> Share:
    """Return a rank's run of ``batches``, about as many frames as every other's.

    Whole batches are dealt out, so that each is restored with the same neighbours as on one rank, and in runs
    that follow one another. Where windows are blended in time, the ones before the run that reach into it are
    restored again.
    """
    frames = [sum(_kept(clips.parts[index]) for index in batch) for batch in batches]
    middles = np.cumsum(frames) - np.array(frames) / 2
    ranks_of = (middles * ranks.world_size / max(1, sum(frames))).astype(int)
    mine = [number for number, rank in enumerate(ranks_of) if rank == ranks.rank]
    if not mine:
        return Share([], frozenset())
    first = clips.parts[batches[mine[0]][0]]
    lead = mine[0]
    while lead and _reaches(clips.parts[batches[lead - 1][-1]], first):
        lead -= 1
    return Share(
        [list(batch) for batch in batches[lead : mine[-1] + 1]],
        frozenset(index for number in mine for index in batches[number]),
    )


def _kept(part: EvaluationPart) -> int:
    return part.stop - part.keep_from


def _reaches(part: EvaluationPart, later: EvaluationPart) -> bool:
    return part.sequence == later.sequence and part.stop > later.keep_from


def frames_given(parts: Sequence[EvaluationPart], index: int) -> int:
    """Return the frames that come out with a part: up to the next one of the sequence, which has the rest."""
    part = parts[index]
    later = parts[index + 1] if index + 1 < len(parts) else None
    stop = part.stop if later is None or later.sequence != part.sequence else min(part.stop, later.keep_from)
    return stop - part.keep_from
