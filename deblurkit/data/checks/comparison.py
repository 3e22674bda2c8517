"""Which sequences are unlike the others: in their spike rate, the size of their frames, their likeness.

A mean rate stands out where it is off the training sequences' median by more than 4 robust standard
deviations of the logarithm (1.4826 times the median absolute deviation), each taken as a factor of 1.5 at
least: never for less than a factor of 5. Pixels that never fire, or always, stand out where they are more
than the median by 0.3 of all. A correlation of spikes and pictures stands out below 0.3 where the median is
0.4 above it: then they do not show the same scene.

Where fewer than three training sequences have spikes, all sequences take their place; fewer than three of all
say nothing.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from deblurkit.data.checks.report import Problem, SequenceReport, SequenceResult, problem
from deblurkit.units import format_share

_FEWEST = 3  # sequences that make a median worth comparing with
_DEVIATIONS = 4.0
_LEAST_DEVIATION = math.log(1.5)
_SHARE_ABOVE = 0.3
_UNLIKE, _UNLIKE_BELOW = 0.3, 0.4


def compare(results: Sequence[SequenceResult]) -> list[SequenceResult]:
    """Return the same results, with the problems that only a comparison shows."""
    shapes = Counter(result.frame_shape for result in results if result.frame_shape is not None)
    usual = shapes.most_common(1)[0][0] if shapes else None
    training = [result.report for result in results if result.report.split == "train"]
    every = [result.report for result in results]
    reference = training if len(_rates(training)) >= _FEWEST else every
    return [
        result.with_problems(
            [
                *_size_problems(result, usual),
                *_rate_problems(result, reference),
                *_likeness_problems(result, every),
            ]
        )
        for result in results
    ]


def _size_problems(result: SequenceResult, usual: tuple[int, int] | None) -> Iterator[Problem]:
    shape = result.frame_shape
    known = any(found.kind == "wrong-size" for found in result.problems)
    if shape is not None and usual is not None and shape != usual and not known:
        what = f"frames of {shape[0]}x{shape[1]} pixels, most sequences have {usual[0]}x{usual[1]}"
        yield problem(result.folder, "wrong-size", what)


def _rate_problems(result: SequenceResult, reference: Sequence[SequenceReport]) -> Iterator[Problem]:
    rates = _rates(reference)
    if len(rates) < _FEWEST:
        return
    logs = [math.log(rate) for rate in rates]
    middle = statistics.median(logs)
    deviation = 1.4826 * statistics.median(abs(log - middle) for log in logs)
    rate = result.report.spike_rate
    if rate and abs(math.log(rate) - middle) > _DEVIATIONS * max(deviation, _LEAST_DEVIATION):
        what = f"fires at {rate:.4f} a frame, the median is {math.exp(middle):.4f}"
        yield problem(result.folder, "rate", what)
    for name, what in (("dead_share", "never fire"), ("saturated_share", "fire in every frame")):
        share = getattr(result.report, name)
        median = statistics.median(getattr(report, name) or 0.0 for report in reference)
        if share is not None and share > median + _SHARE_ABOVE:
            found = f"{format_share(share)} of its pixels {what}, the median is {format_share(median)}"
            yield problem(result.folder, "rate", found)


def _likeness_problems(result: SequenceResult, every: Sequence[SequenceReport]) -> Iterator[Problem]:
    scores = [report.best_score for report in every if report.best_score is not None]
    score = result.report.best_score
    if score is None or len(scores) < _FEWEST or score >= _UNLIKE:
        return
    median = statistics.median(scores)
    if median - score > _UNLIKE_BELOW:
        what = f"spikes and pictures do not show the same scene (r = {score:.2f}, the median is {median:.2f})"
        yield problem(result.folder, "shifted", what)


def _rates(reports: Sequence[SequenceReport]) -> list[float]:
    return [report.spike_rate for report in reports if report.spike_rate]
