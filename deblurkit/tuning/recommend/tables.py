"""The tables that a recommendation is read from: steps on the way, single changes, three choices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from deblurkit.tuning.recommend.front import is_usable
from deblurkit.tuning.recommend.records import Candidate, Recommendation, Row, Trial
from deblurkit.tuning.recommend.trial_figures import median_seconds
from deblurkit.tuning.recommend.words import START, change_words, changed_axes, gain_arithmetic, name_of
from deblurkit.units import format_duration, format_rate, plural

BALANCED = 0.9  # of the best throughput, which the balanced choice keeps at least


@dataclass(frozen=True)
class RunLength:
    """How long the run is that all rows are compared on.

    Attributes:
        steps: of the optimiser; None where the data is not there to tell.
        words: as the user has bounded it: ``50 epochs``, ``120 steps``.
        is_in_epochs: whether epochs bound it.
    """

    steps: float | None
    words: str
    is_in_epochs: bool


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
        name: what was chosen, in words.
        row: that it is of.
        gain: how many times as fast as the start; None where one of the two is not known.
        epoch_seconds: of an epoch; None where the data or the speed is not known.
        total_seconds: of the whole run; likewise.
        arithmetic: how these three come about, a clause each.
    """

    name: str
    row: Row
    gain: float | None
    epoch_seconds: float | None
    total_seconds: float | None
    arithmetic: tuple[str, ...]

    @property
    def step_seconds(self) -> float | None:
        """Of an optimiser step; None where nothing tells."""
        return None if self.row.estimate is None else self.row.estimate.seconds

    @property
    def forward_seconds(self) -> float | None:
        """Of the forward passes of a step; None where nothing tells."""
        phases = {} if self.row.estimate is None else self.row.estimate.phases
        found = [seconds for name, seconds in phases.items() if name.split(" ")[0] == "forward"]
        return sum(found) if found else None


def run_length(found: Recommendation) -> RunLength:
    """Return the length of the run: its epochs, or TRAIN.MAX_STEPS where that ends it before."""
    start = found.start.candidate
    most, clips = start.config.train.max_steps, found.samples_per_epoch
    steps = None if clips is None else found.epochs * clips / start.effective_batch
    if most is not None and (steps is None or most < steps):
        return RunLength(most, plural(most, "step"), is_in_epochs=False)
    return RunLength(steps, plural(found.epochs, "epoch"), is_in_epochs=True)


def steps_table(found: Recommendation) -> tuple[Line, ...]:
    """Return the way from the start to the best: each row is the one before with one thing more changed."""
    first, *rest = found.path or (found.start,)
    lines = [named_line(found, first)]
    for before, row in pairwise([first, *rest]):
        lines.append(_line(found, row, f"+ {change_words(before.candidate, row.candidate)}"))
    return tuple(lines)


def comparison(found: Recommendation) -> tuple[Line, ...]:
    """Return the start, each change alone that fits, the fastest first, and the best with all its changes."""
    start, best = found.start.candidate, found.best
    single = [row for row in _known(found) if len(changed_axes(start, row.candidate)) == 1]
    lines = [_line(found, found.start, START)]
    lines += [
        _line(found, row, f"only {change_words(start, row.candidate)}")
        for row in sorted(single, key=_slowness)
    ]
    if best is not None and len(changed_axes(start, best.candidate)) > 1:
        lines.append(_line(found, best, f"best: {change_words(start, best.candidate)}"))
    return tuple(lines)


def choices(found: Recommendation) -> dict[str, Line]:
    """Return three that fit, by what speaks for each: ``fastest``, ``balanced``, ``least memory``.

    The balanced one needs least memory of those within a tenth of the fastest. Nothing where nothing fits, or
    where the best is a stopgap.
    """
    known = [row for row in _known(found) if row.peak_bytes is not None]
    if found.best is None or found.is_stopgap or not known:
        return {}
    enough = BALANCED * (found.best.samples_per_second or 0.0)
    near = [row for row in known if -_slowness(row) >= enough] or known
    picked = {
        "fastest": found.best,
        "balanced": min(near, key=_memory_then_speed),
        "least memory": min(known, key=_memory_then_speed),
    }
    return {reason: named_line(found, row) for reason, row in picked.items()}


def named_line(found: Recommendation, row: Row) -> Line:
    """Return a row under the words in which it differs from the start."""
    return _line(found, row, name_of(found.start.candidate, row.candidate))


def median_step(trial: Trial) -> float | None:
    """Return the median seconds of a trial's steps; None where none was timed."""
    return median_seconds(trial) if trial.step_seconds else None


def measured_rate(candidate: Candidate, trial: Trial) -> float | None:
    """Return the clips in a second of a trial, of all devices; None where no step was timed."""
    seconds = median_step(trial)
    return None if seconds is None else candidate.effective_batch / seconds


def _line(found: Recommendation, row: Row, name: str) -> Line:
    rate, base = row.samples_per_second, found.start.samples_per_second
    if row.estimate is None or rate is None:
        return Line(name, row, None, None, None, ())
    steps, clips = run_length(found).steps, found.samples_per_epoch
    return Line(
        name=name,
        row=row,
        gain=rate / base if base else None,
        epoch_seconds=None if clips is None else clips / rate,
        total_seconds=None if steps is None else steps * row.estimate.seconds,
        arithmetic=tuple(_arithmetic(found, row.candidate.effective_batch, row.estimate.seconds)),
    )


def _arithmetic(found: Recommendation, clips: int, seconds: float) -> Iterator[str]:
    """Yield how the figures of a step that takes so long come about; what is not known is left out."""
    rate, base = clips / seconds, found.start.samples_per_second
    yield f"{plural(clips, 'clip')} / {seconds:.4g} s = {format_rate(rate)} samples/s"
    if base and base != rate:
        yield gain_arithmetic(rate, base)
    length, epoch = run_length(found), found.samples_per_epoch
    if epoch is not None:
        yield f"{plural(epoch, 'clip')} / {format_rate(rate)} = {format_duration(epoch / rate)} an epoch"
    if length.steps is not None:
        factor = "" if length.is_in_epochs else f" {seconds:.4g} s"
        yield f"{length.words} x{factor or ' that'} = {format_duration(length.steps * seconds)}"


def _known(found: Recommendation) -> list[Row]:
    """Return the rows that fit and whose speed is known, those left out that failed when they were tried."""
    return list(filter(is_usable, found.rows))


def _slowness(row: Row) -> float:
    return -(row.samples_per_second or 0.0)


def _memory_then_speed(row: Row) -> tuple[float, float]:
    return row.peak_bytes or 0.0, _slowness(row)
