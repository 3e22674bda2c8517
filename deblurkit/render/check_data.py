"""What ``check-data`` found, as a table with a line for each problem, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich import box
from rich.table import Table

from deblurkit.data.checks.report import DatasetReport, Problem, SequenceReport
from deblurkit.render.text import as_text
from deblurkit.units import plural

_SHOWN = 5  # problems of one kind in one place; the others are counted
_NOTHING = "-"


def check_as_text(report: DatasetReport) -> str:
    """Return a row for each sequence and below it a line for each problem: path, kind, what, what to do."""
    lines = [f"{report.root}: layout {report.layout}"]
    if report.sequences:
        lines.append(as_text(_table(report)).rstrip("\n"))
    lines += _problem_lines(report.problems)
    frames = sum(sequence.frames for sequence in report.sequences)
    found = plural(len(report.problems), "problem") if report.problems else "no problem"
    lines.append(f"{plural(len(report.sequences), 'sequence')}, {plural(frames, 'frame')}: {found}")
    return "\n".join(lines) + "\n"


def check_as_json(report: DatasetReport) -> str:
    """Return one document: ``layout``, ``sequences``, and ``problems`` of ``path``, ``kind``, ``message``."""
    document = {
        "layout": report.layout,
        "sequences": [_sequence_as_dict(sequence) for sequence in report.sequences],
        "problems": [
            {"path": str(found.path), "kind": found.kind, "message": found.message}
            for found in report.problems
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _sequence_as_dict(sequence: SequenceReport) -> dict[str, Any]:
    plain = {
        key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(sequence).items()
    }
    return {**plain, "kinds": list(sequence.kinds), "verdict": "problems" if sequence.kinds else "ok"}


def _table(report: DatasetReport) -> Table:
    table = Table(box=box.SIMPLE, show_edge=False)
    table.add_column("split")
    table.add_column("sequence", overflow="fold")
    for heading in ("frames", "spike\nrate", "score\nat 0", "best\nshift"):
        table.add_column(heading, justify="right")
    table.add_column("blur")
    table.add_column("verdict", overflow="fold")
    for sequence in report.sequences:
        table.add_row(
            sequence.split,
            sequence.name,
            str(sequence.frames),
            _number(sequence.spike_rate),
            _number(sequence.score),
            _NOTHING if sequence.best_shift is None else f"{sequence.best_shift:+d}",
            sequence.blur_variant or _NOTHING,
            ", ".join(sequence.kinds) or "ok",
        )
    return table


def _number(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.3f}"


def _problem_lines(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield a line a problem; of many alike in one folder the first ones, and how many more."""
    for (folder, kind), alike in groupby(problems, key=lambda found: (found.path.parent, found.kind)):
        found = list(alike)
        yield from (f"{one.path}: {one.kind}: {one.message}" for one in found[:_SHOWN])
        if len(found) > _SHOWN:
            yield f"{folder}: {kind}: and {len(found) - _SHOWN} more (--json lists all)"
