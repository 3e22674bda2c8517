"""The recommended configuration run against the one that the search started from, in turns."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from deblurkit.errors import DeblurkitError
from deblurkit.tuning.recommend.records import CONFIDENCE, Candidate, Trial, Verification
from deblurkit.tuning.recommend.student import student_quantile

FEWEST_ROUNDS = 2  # one ratio says nothing of how far it can be trusted

Run = Callable[[Candidate], Trial]


def verify(
    start: Candidate,
    best: Candidate,
    *,
    promised: tuple[float, float, float],
    run: Run,
    rounds: int = 3,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Verification:
    """Return how many times as fast as ``start`` the recommended configuration is, measured in turns.

    The two take the lead by turns as well, so that a machine that grows slower favours neither.

    Args:
        start: what the search started from.
        best: what it recommends.
        promised: how many times as fast it was said to be, and the ends of that interval.
        run: makes a trial; not one from an earlier search.
        rounds: pairs of trials.
        on_progress: told how many trials are done, and of how many.

    Raises:
        DeblurkitError: if a trial gives no figures.
        ValueError: if there are fewer than two rounds.
    """
    if rounds < FEWEST_ROUNDS:
        raise ValueError(f"at least {FEWEST_ROUNDS} rounds expected, got {rounds}")
    ratios, pair = [], (start, best)
    for number in range(rounds):
        speeds = [0.0, 0.0]
        for turn, which in enumerate((0, 1) if number % 2 == 0 else (1, 0)):
            speeds[which] = _speed(pair[which], run(pair[which]), is_start=which == 0)
            on_progress(2 * number + turn + 1, 2 * rounds)
        ratios.append(speeds[1] / speeds[0])
    low, high = interval_of(ratios)
    return Verification(
        promised=promised,
        measured=statistics.median(ratios),
        low=low,
        high=high,
        rounds=rounds,
        keeps=max(low, promised[1]) <= min(high, promised[2]),
    )


def interval_of(ratios: Sequence[float]) -> tuple[float, float]:
    """Return where the true ratio lies: Student's interval of the logarithms, and all of the ratios."""
    logs = [math.log(ratio) for ratio in ratios]
    freedom = len(logs) - 1
    error = statistics.stdev(logs) / math.sqrt(len(logs))
    reach, middle = student_quantile(freedom, confidence=CONFIDENCE) * error, statistics.fmean(logs)
    return min(math.exp(middle - reach), *ratios), max(math.exp(middle + reach), *ratios)


def _speed(candidate: Candidate, trial: Trial, *, is_start: bool) -> float:
    """Return the samples a second of a trial."""
    if trial.outcome != "measured":
        which = "configuration that it starts from" if is_start else "recommended configuration"
        detail = f": {trial.detail}" if trial.detail else ""
        raise DeblurkitError(
            f"--verify: a trial of the {which} gave no figures ({trial.outcome}{detail}); free the machine's"
            " memory, or try again without --verify"
        )
    return candidate.effective_batch / statistics.median(trial.step_seconds)
