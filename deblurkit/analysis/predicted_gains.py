"""Whether the gains that a report predicted came true in a later run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deblurkit.analysis.bootstrap import Floats, Interval, Pair
from deblurkit.analysis.findings import Finding, Gain
from deblurkit.timing.records import UNACCOUNTED

# The phases that shrink when the remedy of a finding works; all other findings are about the whole step.
PHASES_OF: Mapping[str, tuple[str, ...]] = {
    "data-bound": ("data",),
    "cache-too-small": ("data",),
    "compute-bound": ("forward", "loss", "backward"),
    "recompute": ("backward",),
    "communication": ("all_reduce",),
    "unaccounted-time": (UNACCOUNTED,),
}


@dataclass(frozen=True)
class GainCheck:
    """A prediction and what became of it.

    Attributes:
        id: of the finding.
        predicted: its gain.
        phases: what shrank, as keys of `matched_rows`; empty where the finding itself is gone.
        measured: how many times as fast B is; only by what its own phases gave where several predictions
            are checked at once (``alone`` is False).
        alone: whether this was the only prediction to check, so that the whole step tells.
        verdict: ``came true`` (the intervals meet, and a gain is shown), ``less than predicted``, ``more
            than predicted`` or ``cannot tell``.
    """

    id: str
    predicted: Gain
    phases: tuple[str, ...]
    measured: Interval
    alone: bool
    verdict: str


def check_gains(
    findings: Sequence[Finding], *, gone: Iterable[str], pair: Pair, keys: Sequence[str]
) -> tuple[GainCheck, ...]:
    """Return a check of each finding's gain whose phases shrank, or which is gone and has none of its own.

    Args:
        findings: of A.
        gone: ids that B's findings no longer hold.
        pair: both runs; the step, then a column for each of ``keys``.
        keys: of the columns behind the step.
    """
    vanished = set(gone)
    tried: list[tuple[Finding, Gain, tuple[str, ...]]] = []
    for finding in findings:
        phases = tuple(key for key in PHASES_OF.get(finding.id, ()) if key in keys)
        done = _shrank(pair, keys, phases) if phases else finding.id in vanished
        if finding.gain is not None and done:
            tried.append((finding, finding.gain, phases))
    alone = len(tried) == 1
    return tuple(_check(finding.id, gain, phases, pair, keys, alone=alone) for finding, gain, phases in tried)


def gain_verdict(predicted: Gain, measured: Interval) -> str:
    """Return what became of a prediction."""
    if not measured.known:
        return "cannot tell"
    if measured.below < predicted.low:
        return "less than predicted"
    if measured.above > predicted.high:
        return "more than predicted"
    return "came true" if measured.above > 1 else "cannot tell"


def _check(
    id_: str, gain: Gain, phases: tuple[str, ...], pair: Pair, keys: Sequence[str], *, alone: bool
) -> GainCheck:
    measured = _whole_factor(pair) if alone or not phases else _own_factor(pair, keys, phases)
    known = alone or bool(phases)
    verdict = gain_verdict(gain, measured) if known else "cannot tell"
    return GainCheck(id_, gain, phases, measured, alone, verdict)


def _shrank(pair: Pair, keys: Sequence[str], phases: Sequence[str]) -> bool:
    """Return whether the phases are shorter in B, shown by the interval where there is one."""
    columns = _columns(keys, phases)
    change = pair.derive(lambda a, b: (b - a)[..., columns].sum(axis=-1))
    return change.below < 0 if change.known else change.value < 0


def _whole_factor(pair: Pair) -> Interval:
    return pair.derive(lambda a, b: a[..., 0] / b[..., 0])


def _own_factor(pair: Pair, keys: Sequence[str], phases: Sequence[str]) -> Interval:
    """Return how many times as fast A would be, had only these phases become what they are in B."""
    columns = _columns(keys, phases)

    def factor(a: Floats, b: Floats) -> Floats:
        saved = (a - b)[..., columns].sum(axis=-1)
        return a[..., 0] / np.maximum(a[..., 0] - saved, 1e-9 * a[..., 0])

    return pair.derive(factor)


def _columns(keys: Sequence[str], phases: Sequence[str]) -> list[int]:
    return [1 + keys.index(phase) for phase in phases]
