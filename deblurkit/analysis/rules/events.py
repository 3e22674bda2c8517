"""What ended a run, or nearly did: memory that ran out, and ranks that waited in vain."""

from __future__ import annotations

from collections.abc import Sequence

from deblurkit.analysis.evidence import Evidence
from deblurkit.analysis.findings import Measured
from deblurkit.analysis.tables import Event
from deblurkit.units import format_duration, format_share, plural

_FULL_MACHINE = 0.90  # the seed's limit; deblurkit's own check calls 97 % critical
_GOES_ON = 20  # steps after which a run has survived what happened
_LONGEST_QUOTE = 160


def out_of_memory(evidence: Evidence) -> Measured | None:
    """Measure whether memory ran out: 2 where that ended the run, 1 where the run went on."""
    deadly = [event for event in evidence.events if event.kind in ("oom", "killed")]
    if not deadly:
        return None
    last = deadly[-1]
    survived = all(_went_on(event, evidence) for event in deadly)
    advice = _where(evidence, last)
    words = {"validation": ", while it validated or right after", "killed": ", by the kernel or a signal"}
    text = (
        f"{plural(len(deadly), 'time')}{_after(last)}{words.get(advice, '')}: {_quoted(last)}"
        f"{' The run went on.' if survived else ''}"
    )
    return Measured(1.0 if survived else 2.0, _sentence(text), advice=advice, steps=_steps(deadly))


def machine_nearly_full(evidence: Evidence) -> Measured | None:
    """Measure the share of the machine's memory in use over the last tenth of the run."""
    frame = evidence.scalar("host_memory_share")
    warned = [event for event in evidence.events if event.kind == "memory-warning"]
    if frame is None:
        if not warned:
            return None
        text = (
            f"{plural(len(warned), 'warning')} of the program itself{_after(warned[0])}: {_quoted(warned[0])}"
        )
        return Measured(_FULL_MACHINE + 0.01, _sentence(text), steps=_steps(warned))
    values = frame["value"]
    late = float(values.iloc[-max(1, len(values) // 10) :].median())
    text = (
        f"{format_share(late)} of the machine's memory is in use at the end of the log,"
        f" {format_share(float(values.max()))} at most, over {plural(len(values), 'look')}."
    )
    return Measured(late, text)


def watchdog(evidence: Evidence) -> Measured | None:
    """Measure how often a rank waited for the others until the watchdog ended it."""
    barks = [event for event in evidence.events if event.kind == "watchdog"]
    if not barks:
        return None
    first = barks[0]
    validation = _validation_before(evidence, first)
    during = ""
    if validation is not None:
        length = "" if validation.seconds is None else f", which took {format_duration(validation.seconds)}"
        during = f" It was validating{length}."
    text = f"{plural(len(barks), 'time')}{_after(first)}: {_quoted(first)}{during}"
    advice = "validation" if validation is not None else ""
    return Measured(float(len(barks)), _sentence(text), advice=advice, steps=_steps(barks))


def _where(evidence: Evidence, event: Event) -> str:
    if event.kind == "killed":
        return "killed"
    return "validation" if _validation_before(evidence, event) is not None else ""


def _validation_before(evidence: Evidence, event: Event) -> Event | None:
    """Return the validation that began or ended within a step of an event; None where there is none."""
    found = None
    for other in evidence.events:
        if other is event:
            return found
        if other.kind == "validation":
            near = None in (other.step, event.step) or abs((event.step or 0) - (other.step or 0)) <= 1
            found = other if near else None
        elif other.kind in ("start", "resume"):
            found = None
    return found


def _went_on(event: Event, evidence: Evidence) -> bool:
    if event.step is None or not len(evidence.step_numbers):
        return False
    return bool((evidence.step_numbers > event.step).sum() >= _GOES_ON)


def _after(event: Event) -> str:
    return "" if event.step is None else f", after step {event.step:,}"


def _quoted(event: Event) -> str:
    text = " ".join(event.text.split())
    return f'"{text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"}".'


def _steps(events: Sequence[Event]) -> tuple[int, ...]:
    return tuple(event.step for event in events if event.step is not None)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
