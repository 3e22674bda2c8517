"""Why a search recommends nothing, where that is not for want of memory."""

from __future__ import annotations

from collections import Counter

from deblurkit.tuning.recommend.records import Recommendation
from deblurkit.units import plural


def why_no_answer(found: Recommendation) -> str:
    """Return why nothing is recommended, in a clause; empty where something is, or where nothing fits."""
    if found.best is not None:
        return ""
    if found.unpredicted:
        return (
            f"of none of {plural(len(found.rows), 'configuration')} could memory be told: {found.unpredicted}"
        )
    return _why_not_tried(found)


def _why_not_tried(found: Recommendation) -> str:
    trials = found.trials
    if trials and all(trial.outcome != "measured" for trial in trials):
        words = Counter(": ".join(filter(None, (each.outcome, each.detail))) for each in trials)
        ((usual, times),) = words.most_common(1)
        return f"none of {plural(len(trials), 'trial')} gave figures; {times} of them: {usual}"
    fitting = [row for row in found.rows if row.fits]
    if fitting and all(row.estimate is None for row in fitting):
        return f"{len(fitting):,} of {len(found.rows):,} fit, and of none could the work of a step be counted"
    return ""
