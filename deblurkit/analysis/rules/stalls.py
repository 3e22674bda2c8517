"""Single steps that take far longer than the others: how often, what grew, and what they follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from deblurkit.analysis.changes import with_rest
from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.findings import Measured
from deblurkit.analysis.outliers import period_of
from deblurkit.timing.partition import role_of
from deblurkit.timing.records import UNACCOUNTED
from deblurkit.units import format_ms, plural

_MOST_NAMED = 5
_MOSTLY = 0.8
_FOLLOWED = ("checkpoint", "validation", "epoch")


def stalled_steps(evidence: Evidence) -> Measured | None:
    """Measure the share of all time that stalled steps took beyond a median step."""
    stalled = evidence.stalled
    if evidence.is_summary or not stalled.any():
        return None
    saved = (evidence.step_ms - evidence.step_ms.median()).where(stalled, 0.0)
    numbers = tuple(int(number) for number in evidence.step_numbers[stalled])
    row, grown = _grew_most(evidence)
    cause = _followed(evidence, numbers)
    advice = cause or role_of(row) or ""
    share = _share(saved, evidence)
    return Measured(share, _evidence(evidence, numbers, row, grown, cause), saved, advice, numbers)


def _share(saved: pd.Series[float], evidence: Evidence) -> float:
    weights = evidence.weights if evidence.weights is not None else pd.Series(1.0, index=saved.index)
    return float((saved * weights).sum() / (evidence.step_ms * weights).sum())


def _grew_most(evidence: Evidence) -> tuple[str, float]:
    """Return the phase that grew most in the stalled steps, and by how many milliseconds on average."""
    phases = with_rest(evidence.times, evidence.step_ms)
    grown = (phases[evidence.stalled] - phases.median()).mean()
    return str(grown.idxmax()), float(grown.max())


def _followed(evidence: Evidence, numbers: Sequence[int]) -> str:
    """Return what most of the stalled steps come directly after: a kind of event, or an empty text."""
    for kind in _FOLLOWED:
        steps = {event.step for event in evidence.events if event.kind == kind and event.step is not None}
        near = [bool({number - 1, number} & steps) for number in numbers]
        if np.mean(near) >= _MOSTLY:
            return kind
    return ""


def _evidence(evidence: Evidence, numbers: Sequence[int], row: str, grown: float, cause: str) -> str:
    lengths = evidence.step_ms[evidence.stalled]
    named = ", ".join(
        f"{number} ({format_ms(ms)})"
        for number, ms in zip(numbers[:_MOST_NAMED], lengths.iloc[:_MOST_NAMED], strict=True)
    )
    more = f" and {len(numbers) - _MOST_NAMED:,} more" if len(numbers) > _MOST_NAMED else ""
    usual = format_ms(float(evidence.step_ms.median()))
    timed = row != UNACCOUNTED or bool(evidence.shares)
    name = "time in no phase" if row == UNACCOUNTED else row
    growth = f"; {name} grew most, by {format_ms(grown)} on average" if timed else ""
    period = period_of(numbers)
    regular = f" They come every {plural(period, 'step')}." if period is not None else ""
    after = f" They come with {_WORDS[cause]}." if cause else ""
    means = "" if evidence.weights is None else ", each the mean of the steps of a line"
    return (
        f"{'Step' if len(numbers) == 1 else 'Steps'} {named}{more}{means}, against a median of {usual} over"
        f" {plural(evidence.num_steps, 'step')}{growth}.{regular}{after}"
    )


_WORDS = {"checkpoint": "a checkpoint", "validation": "a validation", "epoch": "a new epoch"}
