"""How much longer a step takes in one log than in another, by phase, and how sure that is.

The mean step decides, since it is what a training run lasts; the median stands beside it. A change counts
as moderate beyond 3 % and as material beyond 8 %, the limits in use elsewhere, and only where the near end
of its 95 % interval lies beyond: the bound that is closest to "no change". So a regression is material only
if the whole interval is. Slower by a factor and faster by the same factor are one size: swapping the logs
swaps the directions and nothing else. Where an interval is too wide for any of these sentences, none is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deblurkit.analysis.bootstrap import Floats, Interval, Pair, Resampled, means_only, resample
from deblurkit.analysis.matched_rows import ALL_ELSE, MatchedRows, TimedSteps
from deblurkit.units import plural

MODERATE = 0.03
MATERIAL = 0.08
FEWEST_STEPS = 20
FEWEST_BLOCKS = 6
_WORTH_NAMING = 0.005  # of A's step; what is shorter may be real and is still not worth a word


@dataclass(frozen=True)
class Verdict:
    """What one can say of a change.

    Attributes:
        level: ``same``, ``moderate``, ``material`` or ``cannot tell``.
        direction: ``slower`` or ``faster``, of a moderate or material change; else empty.
        within: of ``same``: the limit that the whole interval stays within, 0.03 or 0.08; else None.
        why: of ``cannot tell``: the reason; else empty.
    """

    level: str
    direction: str = ""
    within: float | None = None
    why: str = ""


@dataclass(frozen=True)
class RowChange:
    """A phase in two logs.

    Attributes:
        key: the standard phase, or the plain form of the name; ``unaccounted`` and ``all else`` are what
            the other rows leave of the step.
        names_a, names_b: what the logs call it; empty where a log has no such row.
        mean_a, mean_b: milliseconds, see ``StepChange.per``; None where a log has no such row.
        median_a, median_b: of the steps; None also where a log has means only.
        difference: B - A; None where only one log has the row.
        share: of the whole change; None where no change of the step is shown.
        verdict: ``slower``, ``faster``, ``not shown to differ``, ``cannot tell``, ``only in A`` or
            ``only in B``.
    """

    key: str
    names_a: tuple[str, ...]
    names_b: tuple[str, ...]
    mean_a: float | None
    mean_b: float | None
    median_a: float | None
    median_b: float | None
    difference: Interval | None
    share: Interval | None
    verdict: str


@dataclass(frozen=True)
class StepChange:
    """How the step times of two logs compare.

    Attributes:
        verdict: of the ratio that decides, see ``per``.
        per: ``step``, or ``sample`` where steps take unlike numbers of samples: what the verdict, the rows
            and the median are about.
        is_wall: whether a step is wall time in both; else it is the sum of the phases that both name.
        step_ratio: length of a step, B / A; None where there is nothing to compare.
        sample_ratio: time a sample, B / A; None where a log does not tell its samples.
        samples_per_second_ratio: B / A, the inverse; None also where a log has no wall time.
        median_ratio: of the median steps, B / A; None where unknown.
        rows: the phases, the largest change first; those with a difference add up to that of the step.
        pair: what the intervals were derived from; None where there is nothing to compare.
    """

    verdict: Verdict
    per: str = "step"
    is_wall: bool = False
    step_ratio: Interval | None = None
    sample_ratio: Interval | None = None
    samples_per_second_ratio: Interval | None = None
    median_ratio: float | None = None
    rows: tuple[RowChange, ...] = ()
    pair: Pair | None = None


@dataclass(frozen=True)
class Run:
    """One of the two logs, as far as step times go.

    Attributes:
        name: ``A`` or ``B``.
        steps: its steps.
        samples: that all ranks take in a step; None unknown.
        is_summary: whether only means were logged.
    """

    name: str
    steps: TimedSteps
    samples: int | None
    is_summary: bool


def judge(ratio: Interval) -> Verdict:
    """Return what a ratio of times, B / A, lets one say."""
    if not ratio.known:
        return Verdict("cannot tell", why="how far single steps lie apart is not known")
    low, high = ratio.above, ratio.below
    near, far = max(low, 1 / high, 1.0), max(high, 1 / low)
    direction = "slower" if low > 1 else "faster"
    if near > 1 + MODERATE:
        return Verdict("material" if near > 1 + MATERIAL else "moderate", direction)
    if far <= 1 + MATERIAL:
        return Verdict("same", within=MODERATE if far <= 1 + MODERATE else MATERIAL)
    return Verdict(
        "cannot tell",
        why=f"the interval, {low:.3f} to {high:.3f}, holds changes under {100 * MODERATE:.0f} % and over"
        f" {100 * MATERIAL:.0f} %; longer logs narrow it",
    )


def compare_steps(a: Run, b: Run, rows: MatchedRows | None, *, seed: int = 0) -> StepChange:
    """Return how the steps of two logs compare.

    Args:
        a: the earlier log.
        b: the later one.
        rows: both with the same columns, None where there are none.
        seed: of the resampling; the same one gives the same intervals.
    """
    if rows is None:
        return StepChange(Verdict("cannot tell", why=_nothing_in_common(a, b)))
    per_sample = a.samples is not None and b.samples is not None and a.samples != b.samples
    sizes = (float(a.samples or 1), float(b.samples or 1)) if per_sample else (1.0, 1.0)
    sides, lacking = _resampled(a, b, rows, seed=seed)
    pair = Pair(*(_divided(side, size) for side, size in zip(sides, sizes, strict=True)))
    decides = pair.derive(lambda x, y: y[..., 0] / x[..., 0])
    known = rows.is_wall and a.samples is not None and b.samples is not None
    before, after = (_median(run, side[:, 0]) for run, side in ((a, rows.a), (b, rows.b)))
    return StepChange(
        verdict=Verdict("cannot tell", why=lacking) if lacking else judge(decides),
        per="sample" if per_sample else "step",
        is_wall=rows.is_wall,
        step_ratio=_times(decides, sizes[1] / sizes[0]),
        sample_ratio=decides if a.samples is not None and b.samples is not None else None,
        samples_per_second_ratio=pair.derive(lambda x, y: x[..., 0] / y[..., 0]) if known else None,
        median_ratio=after / before * sizes[0] / sizes[1] if before and after else None,
        rows=tuple(_row_changes(a, b, rows, pair, sizes)),
        pair=pair,
    )


def _nothing_in_common(a: Run, b: Run) -> str:
    for run in (a, b):
        if not len(run.steps.step_ms):
            return f"{run.name} tells no time of a step"
    return "the logs name no common phase, and not both tell the wall time of a step"


def _resampled(a: Run, b: Run, rows: MatchedRows, *, seed: int) -> tuple[list[Resampled], str]:
    """Return both logs resampled, or their means and the reason why no more can be known."""
    lacking = _lacking(a) or _lacking(b)
    sides = ((a, rows.a), (b, rows.b))
    if not lacking:
        drawn = [
            resample(columns, run.steps.counts, deciding=rows.deciding, seed=(seed, place))
            for place, (run, columns) in enumerate(sides)
        ]
        lacking = _few_blocks(a, drawn[0]) or _few_blocks(b, drawn[1])
        if not lacking:
            return drawn, ""
    return [means_only(columns, run.steps.counts) for run, columns in sides], lacking


def _lacking(run: Run) -> str:
    if run.is_summary:
        return f"{run.name} holds only means, so how far they can be trusted is not known"
    if len(run.steps.counts) < FEWEST_STEPS:
        what = "step" if run.steps.num_steps == len(run.steps.counts) else "line"
        held = plural(len(run.steps.counts), what)
        return f"{run.name} holds {held} behind its warm-up, and at least {FEWEST_STEPS} are needed"
    return ""


def _few_blocks(run: Run, drawn: Resampled) -> str:
    if drawn.blocks >= FEWEST_BLOCKS:
        return ""
    return (
        f"the steps of {run.name} drift or swing together, so that {plural(run.steps.num_steps, 'step')} tell"
        f" no more than {drawn.blocks:.1f} independent ones; a longer log is needed"
    )


def _divided(side: Resampled, size: float) -> Resampled:
    """Return the run by sample; a step of no time at all, which a ratio cannot bear, gets a trace of it."""
    draws = side.draws / size
    draws[:, 0] = np.maximum(draws[:, 0], 1e-6 * side.means[0] / size)
    return Resampled(side.means / size, draws, side.blocks)


def _times(figure: Interval, factor: float) -> Interval:
    bounds = (bound if bound is None else bound * factor for bound in (figure.low, figure.high))
    return Interval(figure.value * factor, *bounds)


def _median(run: Run, milliseconds: Floats) -> float | None:
    return None if run.is_summary else float(np.median(milliseconds))


def _row_changes(
    a: Run, b: Run, rows: MatchedRows, pair: Pair, sizes: tuple[float, float]
) -> Iterator[RowChange]:
    """Yield the changes of the shared rows, the largest first, then the rows of one log."""
    shown = _difference(pair, 0).excludes(0.0)
    shared: list[tuple[float, RowChange]] = []
    for place, key in enumerate(rows.keys, start=1):
        difference = _difference(pair, place)
        row = RowChange(
            key=key,
            names_a=_names(a, key, rows.only_a),
            names_b=_names(b, key, rows.only_b),
            mean_a=float(pair.a.means[place]),
            mean_b=float(pair.b.means[place]),
            median_a=_median(a, rows.a[:, place] / sizes[0]),
            median_b=_median(b, rows.b[:, place] / sizes[1]),
            difference=difference,
            share=_share_of_change(pair, place) if shown else None,
            verdict=_row_verdict(difference, float(pair.a.means[0])),
        )
        shared.append((-abs(difference.value), row))
    yield from (row for _, row in sorted(shared, key=lambda pair: pair[0]))
    yield from (_lone_row(key, a, sizes[0]) for key in rows.only_a)
    yield from (_lone_row(key, b, sizes[1]) for key in rows.only_b)


def _difference(pair: Pair, place: int) -> Interval:
    return pair.derive(lambda x, y: (y - x)[..., place])


def _share_of_change(pair: Pair, place: int) -> Interval:
    return pair.derive(lambda x, y: _quotient((y - x)[..., place], (y - x)[..., 0]))


def _lone_row(key: str, run: Run, size: float) -> RowChange:
    values, counts = run.steps.phases[key] / size, run.steps.counts
    mean, median = float(values @ counts / counts.sum()), _median(run, values)
    names, is_a = run.steps.names[key], run.name == "A"
    return RowChange(
        key=key,
        names_a=names if is_a else (),
        names_b=() if is_a else names,
        mean_a=mean if is_a else None,
        mean_b=None if is_a else mean,
        median_a=median if is_a else None,
        median_b=None if is_a else median,
        difference=None,
        share=None,
        verdict=f"only in {run.name}",
    )


def _names(run: Run, key: str, only_here: tuple[str, ...]) -> tuple[str, ...]:
    if key == ALL_ELSE:
        return tuple(name for lone in only_here for name in run.steps.names[lone])
    return run.steps.names.get(key, (key,))


def _quotient(part: Floats, whole: Floats) -> Floats:
    return part / np.where(whole == 0, np.finfo(np.float64).tiny, whole)


def _row_verdict(difference: Interval, step: float) -> str:
    if not difference.known:
        return "cannot tell"
    if not difference.excludes(0.0) or abs(difference.value) < _WORTH_NAMING * step:
        return "not shown to differ"
    return "slower" if difference.value > 0 else "faster"
