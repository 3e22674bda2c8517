"""A recommendation for a terminal: what to train with, how sure that is, and the tables it is read from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from deblurkit.language import Language
from deblurkit.render.recommend_cells import (
    interval_cell,
    outcome_cell,
    rate_cell,
    said,
    size_cell,
    source_cell,
)
from deblurkit.render.recommend_sheets import Sheet, sheets
from deblurkit.render.text import as_text, figure_table, indented
from deblurkit.tuning.recommend.no_answer import why_no_answer
from deblurkit.tuning.recommend.records import Candidate, Recommendation, Row, Trial, Verification
from deblurkit.tuning.recommend.tables import median_step, named_line
from deblurkit.tuning.recommend.words import choice_words, gain_words, recommended_settings
from deblurkit.units import format_bytes, format_duration, format_ms, plural

WIDTH = 118
_MOST = 12  # rows of the table of what lost
_EFFECTS = {
    "none": "the same sums as the start's",
    "rounding": "the same sums as the start's, other digits (16-bit products or 8-bit states)",
    "accuracy": "ANOTHER RESULT than the start's: compare the accuracy (--allow accuracy)",
}


def recommendation_as_text(found: Recommendation, *, language: Language = "en") -> str:
    """Return what was found to read: the recommendation first, then the tables, then what to know."""
    parts: list[RenderableType] = [Text(said("The recommendation", language)), *map(indented, facts(found))]
    for sheet in sheets(found, language=language, most=_MOST):
        parts += [Text(f"\n{sheet.title}"), _table(sheet), *map(indented, sheet.below)]
    for title, lines in lists(found):
        parts += [Text(f"\n{said(title, language)}"), *map(indented, lines)]
    return as_text(Group(*parts), width=WIDTH)


def facts(found: Recommendation) -> Iterator[str]:
    """Yield what is recommended, what it needs and gives, and where that is from."""
    yield f"For {found.hardware}; {_budget(found)}"
    if found.is_prediction:
        yield "PREDICTION: no step was measured on this card"
    yield from _nothing(found) if found.best is None else _best(found, found.best)
    yield f"{_space(found)}; {plural(len(found.trials), 'trial')}; the search ended: {found.stopped}"
    if found.verification is not None:
        yield verification_words(found.verification)


def lists(found: Recommendation) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the sentences below the tables, under their titles; those titles that have any."""
    if found.loading_words:
        yield "Loading", found.loading_words
    if found.notes:
        yield "Notes", found.notes


def options_of(found: Recommendation) -> str:
    """Return the recommended changes as options of the command line; empty where there are none."""
    return " ".join(f"--set {shlex.quote(setting)}" for setting in recommended_settings(found))


def verification_words(checked: Verification) -> str:
    """Return what was promised and what was measured, in turns."""
    gain, low, high = map(gain_words, checked.promised)
    measured, least, most = map(gain_words, (checked.measured, checked.low, checked.high))
    verdict = "kept" if checked.keeps else "MISSED"
    rounds = plural(checked.rounds, "round")
    return (
        f"Verified: promised {gain} ({low} to {high}), measured {measured} ({least} to {most}) in"
        f" {rounds}: {verdict}"
    )


def trial_line(number: int, candidate: Candidate, trial: Trial, best: Row | None) -> str:
    """Return a line on a trial as it ends: what was tried, what came of it, and the best so far."""
    seconds = median_step(trial)
    step = "" if seconds is None else f", {format_ms(1e3 * seconds)} a step"
    took = "kept" if trial.is_cached else f"in {format_duration(trial.seconds)}"
    ahead = "" if best is None else f"; best {rate_cell(best)} samples/s ({choice_words(best.candidate)})"
    return f"trial {number} ({choice_words(candidate)}): {outcome_cell(trial)} {took}{step}{ahead}"


def _best(found: Recommendation, best: Row) -> Iterator[str]:
    line = named_line(found, best)
    yield line.name
    yield _speed(best)
    if found.is_stopgap:
        yield best.verdict
    if best.peak_bytes is not None:
        yield f"{size_cell(best.peak_bytes)} {_needed(found)}"
    if line.gain not in (None, 1.0):
        yield f"{'; '.join(line.arithmetic[:2])} as fast as the start"
    yield f"training: {_EFFECTS[best.candidate.effect]}"
    if found.learning_rate:
        yield f"learning rate: {found.learning_rate}"
    yield options_of(found) or "the configuration as it was given: nothing to change"
    if best.candidate.devices > 1:
        yield f"train with --gpus {best.candidate.devices}"


def _speed(best: Row) -> str:
    if best.estimate is None:
        return "its speed is not known"
    return f"{rate_cell(best)} samples/s (90 % interval {interval_cell(best)}; {source_cell(best)})"


def _space(found: Recommendation) -> str:
    """Return how many configurations there are, and how many of them fit, as far as that is known."""
    unknown = sum(row.peak_bytes is None for row in found.rows)
    fit = sum(row.fits and row.peak_bytes is not None for row in found.rows)
    words = f"{fit:,} are known to fit, of {unknown:,} the memory is not known" if unknown else f"{fit:,} fit"
    return f"{plural(len(found.rows), 'configuration')}, {words}"


def _needed(found: Recommendation) -> str:
    there = found.budget.device_bytes
    return "of memory" if there is None else f"of {format_bytes(there)} of memory"


def _nothing(found: Recommendation) -> Iterator[str]:
    why = why_no_answer(found)
    if why:
        yield f"NO RECOMMENDATION: {why}"
        return
    needs = [row.peak_bytes for row in found.rows if row.peak_bytes is not None]
    yield "NOTHING FITS" + (f": the least needs {format_bytes(min(needs))}" if needs else "")


def _budget(found: Recommendation) -> str:
    device, host = found.budget.device_bytes, found.budget.host_bytes
    bounds = [f"{format_bytes(device)} of device memory"] if device is not None else []
    bounds += [f"{format_bytes(host)} of host memory"] if host is not None else []
    return f"within {' and '.join(bounds)}" if bounds else "memory without bound"


def _table(sheet: Sheet) -> RenderableType:
    table = figure_table(sheet.head[0])
    for number, title in enumerate(sheet.head[1:], start=1):
        if number in sheet.words:
            table.add_column(title, overflow="fold")
        else:
            table.add_column(title, justify="right", no_wrap=True)
    for row in sheet.rows:
        table.add_row(*map(Text, row))
    return table
