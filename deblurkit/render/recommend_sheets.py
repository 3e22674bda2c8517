"""What a recommendation says, as sheets of words that the terminal, Markdown and the page all draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deblurkit.language import Language
from deblurkit.render.recommend_cells import (
    NOTHING,
    duration_cell,
    effect_cell,
    gain_cell,
    interval_cell,
    ms_cell,
    outcome_cell,
    rate_cell,
    said,
    size_cell,
    source_cell,
)
from deblurkit.tuning.recommend.records import Recommendation, Row, Trial
from deblurkit.tuning.recommend.tables import (
    Line,
    choices,
    comparison,
    measured_rate,
    median_step,
    named_line,
    run_length,
    steps_table,
)
from deblurkit.tuning.recommend.words import name_of
from deblurkit.units import format_duration, format_rate


@dataclass(frozen=True)
class Sheet:
    """A table as plain text.

    Attributes:
        title: of the table.
        head: titles of its columns; the first one names the rows.
        rows: a cell for each column.
        words: numbers of columns, the first apart, that hold words and not figures.
        below: sentences that belong to the table.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[int]
    below: tuple[str, ...] = ()


def sheets(found: Recommendation, *, language: Language = "en", most: int | None = None) -> Iterator[Sheet]:
    """Yield the tables, those that hold something, in the order in which they are read.

    Args:
        found: the recommendation.
        language: of titles; names of choices and reasons stay as they are.
        most: rows of the last table, of the others that lost; None: all.
    """
    tables = (_steps(found), _singles(found), _three(found), _trials(found), _others(found, most))
    yield from (_translated(sheet, language) for sheet in tables if sheet.rows)


def front_sheet(found: Recommendation, *, language: Language = "en") -> Sheet:
    """Return the rows that no other beats in both memory and throughput, numbered as in the picture."""
    rows = tuple(
        (str(number), *_other_row(named_line(found, row))[:-1]) for number, row in enumerate(found.front, 1)
    )
    head = ("Front", "Configuration", "memory", "samples/s", "90 % interval", "from")
    return _translated(Sheet("Memory against throughput", head, rows, words=frozenset({1, 5})), language)


def _translated(sheet: Sheet, language: Language) -> Sheet:
    head = tuple(said(cell, language) for cell in sheet.head)
    rows = tuple(tuple(said(cell, language) for cell in row) for row in sheet.rows)
    return Sheet(said(sheet.title, language), head, rows, sheet.words, sheet.below)


def _steps(found: Recommendation) -> Sheet:
    lines = steps_table(found)
    whole = run_length(found).words
    return Sheet(
        "From the start to the recommendation",
        ("Configuration", "memory", "step", "samples/s", "90 % interval", "epoch", whole, "gain", "from"),
        tuple(map(_step_row, lines)),
        words=frozenset({8}),
        below=tuple(f"{line.name}: {'; '.join(line.arithmetic)}" for line in lines if line.arithmetic),
    )


def _step_row(line: Line) -> tuple[str, ...]:
    row = line.row
    speed = (ms_cell(line.step_seconds), rate_cell(row), interval_cell(row))
    times = (duration_cell(line.epoch_seconds), duration_cell(line.total_seconds))
    return (_marked(line), size_cell(row.peak_bytes), *speed, *times, gain_cell(line.gain), source_cell(row))


def _singles(found: Recommendation) -> Sheet:
    return Sheet(
        "Single changes",
        ("Configuration", "forward", "samples/s", "gain", "training", "memory", "from"),
        tuple(map(_single_row, comparison(found))),
        words=frozenset({4, 6}),
    )


def _single_row(line: Line) -> tuple[str, ...]:
    row = line.row
    speed = (ms_cell(line.forward_seconds), rate_cell(row), gain_cell(line.gain))
    return (_marked(line), *speed, effect_cell(row.candidate), size_cell(row.peak_bytes), source_cell(row))


def _three(found: Recommendation) -> Sheet:
    return Sheet(
        "Three choices",
        ("For", "Configuration", "memory", "samples/s", "gain", "training", "from"),
        tuple((reason, *_three_row(line)) for reason, line in choices(found).items()),
        words=frozenset({1, 5, 6}),
    )


def _three_row(line: Line) -> tuple[str, ...]:
    row = line.row
    figures = (size_cell(row.peak_bytes), rate_cell(row), gain_cell(line.gain))
    return (line.name, *figures, effect_cell(row.candidate), source_cell(row))


def _trials(found: Recommendation) -> Sheet:
    """Return the trials; with their memory, where that was looked at: on a CPU it is predicted alone."""
    rows = {row.candidate.key: row for row in found.rows}
    has_memory = any(trial.peak_bytes is not None for trial in found.trials)
    head = ("Trial", "step", "samples/s", *(("memory",) if has_memory else ()), "took", "outcome")
    return Sheet(
        "What was tried",
        head,
        tuple(_trial_row(found, trial, rows.get(trial.key), has_memory=has_memory) for trial in found.trials),
        words=frozenset({len(head) - 1}),
    )


def _trial_row(found: Recommendation, trial: Trial, row: Row | None, *, has_memory: bool) -> tuple[str, ...]:
    rate = None if row is None else measured_rate(row.candidate, trial)
    return (
        trial.key if row is None else name_of(found.start.candidate, row.candidate),
        ms_cell(median_step(trial)),
        NOTHING if rate is None else format_rate(rate),
        *((size_cell(trial.peak_bytes),) if has_memory else ()),
        "kept" if trial.is_cached else format_duration(trial.seconds),
        outcome_cell(trial),
    )


def _others(found: Recommendation, most: int | None) -> Sheet:
    best = None if found.best is None else found.best.candidate.key
    others = [row for row in found.rows if row.candidate.key != best]
    hidden = len(others) - len(others[:most])
    return Sheet(
        "Why the others lost",
        ("Configuration", "memory", "samples/s", "90 % interval", "from", "why"),
        tuple(_other_row(named_line(found, row)) for row in others[:most]),
        words=frozenset({4, 5}),
        below=(f"and {hidden:,} more: --markdown, --html and --json have them all",) if hidden else (),
    )


def _other_row(line: Line) -> tuple[str, ...]:
    row = line.row
    figures = (size_cell(row.peak_bytes), rate_cell(row), interval_cell(row))
    return (line.name, *figures, source_cell(row), row.verdict or NOTHING)


def _marked(line: Line) -> str:
    if line.row.fits:
        return line.name
    why = "memory not known" if line.row.peak_bytes is None else "does not fit"
    return f"{line.name} ({why})"
