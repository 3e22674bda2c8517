"""What ``diagnose-memory`` has found, as text for a terminal."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from deblurkit.memory.look import Look, printable
from deblurkit.render.memory_machine import machine_sections
from deblurkit.render.text import as_text, indented
from deblurkit.tuning.memory_report import MemoryReport, PastRun

WIDTH = 110
_MOST_LINES = 5  # of a log


def memory_as_text(report: MemoryReport) -> str:
    """Return the tables to read: how a run has ended, what one will take, what the machine gives."""
    return as_text(Group(*sections(report)), width=WIDTH)


def sections(report: MemoryReport) -> Iterator[RenderableType]:
    """Yield all parts of a report in their order; headings begin with an empty line."""
    yield Text(headline(report.look))
    if report.past is not None:
        yield from past_sections(report.past)
    if report.run is not None:
        from deblurkit.render.memory_prediction import prediction_sections

        yield from prediction_sections(report.run)
    yield from machine_sections(report.look)


def headline(look: Look) -> str:
    """Return which machine was looked at, when, and by whom."""
    return f"{look.hostname}, {moment(look.at)}, as {look.user}"


def moment(at: float) -> str:
    """Return Unix seconds as a local time."""
    return datetime.datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


def past_sections(past: PastRun) -> Iterator[RenderableType]:
    """Yield how a run has ended, and why."""
    end, found = past.aftermath.end, past.aftermath
    name = f"The run in {past.folder}" if past.folder is not None else f"Process {end.pid}"
    yield Text(f"\n{name}: {_status(past)}")
    for cause in found.causes:
        yield indented(printable(f"{cause.certainty}: {cause.text} [{cause.source}]"))
    if end.told:
        yield Text("  Last words of its log")
        yield from (indented(printable(line), columns=4) for line in end.told[-_MOST_LINES:])
    yield from (indented(f"not seen: {line}") for line in found.unseen)
    if past.folder is not None:
        config = shlex.quote(str(past.folder / "config.yaml"))
        yield indented(f"what it takes: deblurkit diagnose-memory --config {config}")


def _status(past: PastRun) -> str:
    end = past.aftermath.end
    facts: list[str] = [end.status]
    facts += [f"process {end.pid}"] if end.pid is not None and past.folder is not None else []
    facts += [f"on {end.hostname}"] if end.hostname else []
    facts += [f"began {moment(end.started_at)}"] if end.started_at is not None else []
    facts += [f"ended {moment(end.ended_at)}"] if end.ended_at is not None else []
    return ", ".join(facts)
