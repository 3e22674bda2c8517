"""From what was measured in single steps to the tables of a profile; pure arithmetic."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from deblurkit.timing.peaks import Peak
from deblurkit.timing.records import UNACCOUNTED
from deblurkit.training.profiling.counters import BYTES, FLOPS
from deblurkit.training.profiling.partition import Piece, totals
from deblurkit.training.profiling.records import Passes, Phase, Row, Shape, StepProfile, Subject
from deblurkit.training.step import PHASES

Amounts = Mapping[tuple[str, str, str], float]


@dataclass(frozen=True)
class Measured:
    """What the steps gave.

    Attributes:
        timelines: the pieces of each timed step [s].
        wall_seconds: length of each timed step.
        work: the pieces of a micro-step in operations and bytes; ``work_factor`` micro-steps make a step.
        peak_bytes: by phase.
        calls, inputs, outputs, modules, parameter_bytes: by row.
    """

    subject: Subject
    warmup: int
    timelines: Sequence[Sequence[Piece]]
    wall_seconds: Sequence[float]
    work: Sequence[Piece] = ()
    work_factor: int = 1
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    inputs: Mapping[str, tuple[Shape, ...]] = field(default_factory=dict)
    outputs: Mapping[str, tuple[Shape, ...]] = field(default_factory=dict)
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parameter_bytes: Mapping[str, int] = field(default_factory=dict)
    peak: Peak | None = None
    notes: tuple[str, ...] = ()


def summarise(measured: Measured) -> StepProfile:
    """Return the profile of what was measured, without what to change."""
    steps = [totals(timeline) for timeline in measured.timelines]
    mean_ms = {key: 1e3 * statistics.fmean(step.get(key, 0.0) for step in steps) for key in _keys(steps)}
    step_ms = 1e3 * statistics.fmean(measured.wall_seconds)
    flops = _scaled(totals(measured.work, of=FLOPS), measured.work_factor)
    own_ms, own_flops = _by_row(mean_ms), _by_row(flops)
    return StepProfile(
        subject=measured.subject,
        steps=len(steps),
        warmup=measured.warmup,
        step_ms=step_ms,
        median_step_ms=1e3 * statistics.median(measured.wall_seconds),
        phases=tuple(_phases(measured, steps, flops, step_ms=step_ms)),
        rows=tuple(_rows(measured, own_ms, own_flops, step_ms=step_ms)),
        outside_ms=own_ms.get("", Passes()),
        recompute_ms=_by_kind(mean_ms),
        flops=sum(own_flops.values(), Passes()) if measured.work else None,
        peak=measured.peak,
        timelines=tuple(tuple(timeline) for timeline in measured.timelines),
        notes=measured.notes,
    )


def _keys(steps: Iterable[Amounts]) -> list[tuple[str, str, str]]:
    return list(dict.fromkeys(key for step in steps for key in step))


def _scaled(amounts: Amounts, factor: float) -> dict[tuple[str, str, str], float]:
    return {key: factor * amount for key, amount in amounts.items()}


def _by_row(amounts: Amounts) -> dict[str, Passes]:
    """Return what each row has of the forward and the backward phase by itself."""
    found: dict[str, Passes] = {}
    for (phase, row, kind), amount in amounts.items():
        if phase == "forward":
            part = Passes(forward=amount)
        elif phase == "backward":
            part = Passes(recompute=amount) if kind else Passes(backward=amount)
        else:
            continue
        found[row] = found.get(row, Passes()) + part
    return found


def _by_kind(amounts: Amounts) -> dict[str, float]:
    found: dict[str, float] = {}
    for (_, _, kind), amount in amounts.items():
        if kind:
            found[kind] = found.get(kind, 0.0) + amount
    return found


def _phases(
    measured: Measured, steps: Sequence[Amounts], flops: Amounts, *, step_ms: float
) -> Iterator[Phase]:
    """Yield the phases in the order in which a step has them, and what none of them covers."""
    sums = [_by_phase(step) for step in steps]
    for step, wall in zip(sums, measured.wall_seconds, strict=True):
        step[UNACCOUNTED] = wall - sum(step.values())
    counted = _by_phase(flops)
    others = [name for name in dict.fromkeys(name for step in sums for name in step) if name not in PHASES]
    for name in (*PHASES, *others):
        milliseconds = [1e3 * step.get(name, 0.0) for step in sums]
        mean = statistics.fmean(milliseconds)
        yield Phase(
            name=name,
            mean_ms=mean,
            median_ms=statistics.median(milliseconds),
            share=mean / step_ms if step_ms > 0 else 0.0,
            flops=counted.get(name, 0.0) if measured.work else None,
            peak_bytes=measured.peak_bytes.get(name),
        )


def _by_phase(amounts: Amounts) -> dict[str, float]:
    found: dict[str, float] = {}
    for (phase, _, _), amount in amounts.items():
        found[phase] = found.get(phase, 0.0) + amount
    return found


def _rows(
    measured: Measured, own_ms: Mapping[str, Passes], own_flops: Mapping[str, Passes], *, step_ms: float
) -> Iterator[Row]:
    moved = _by_row(_scaled(totals(measured.work, of=BYTES), measured.work_factor))
    for name in ordered([*_first_seen(measured.timelines), *measured.modules]):
        inclusive = _inside(name, own_ms)
        yield Row(
            name=name,
            modules=measured.modules.get(name, ()),
            calls=measured.calls.get(name, 0),
            own_ms=own_ms.get(name, Passes()),
            ms=inclusive,
            share=inclusive.total / step_ms if step_ms > 0 else 0.0,
            flops=_inside(name, own_flops),
            bytes_moved=_inside(name, moved),
            parameter_bytes=_parameter_bytes(name, measured),
            inputs=measured.inputs.get(name, ()),
            outputs=measured.outputs.get(name, ()),
        )


def _first_seen(timelines: Sequence[Sequence[Piece]]) -> list[str]:
    return [piece.row for piece in timelines[0] if piece.row and not piece.kind] if timelines else []


def ordered(names: Iterable[str]) -> list[str]:
    """Return each name once, after the names that it lies inside of, otherwise in the order of ``names``."""
    children: dict[str, list[str]] = {}
    seen: set[str] = set()
    for name in names:
        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            path = "/".join(parts[:end])
            if path not in seen:
                seen.add(path)
                children.setdefault("/".join(parts[: end - 1]), []).append(path)

    def walk(parent: str) -> Iterator[str]:
        for child in children.get(parent, ()):
            yield child
            yield from walk(child)

    return list(walk(""))


def _inside(name: str, own: Mapping[str, Passes]) -> Passes:
    """Return the amount of a row and of all rows inside it."""
    return sum((part for row, part in own.items() if f"{row}/".startswith(f"{name}/")), Passes())


def _parameter_bytes(name: str, measured: Measured) -> int:
    """Return the bytes of a row's own modules; of a row that only holds others, those of the others."""
    if name in measured.parameter_bytes:
        return measured.parameter_bytes[name]
    below = [row for row in measured.parameter_bytes if row.startswith(f"{name}/")]
    tops = [row for row in below if not any(row.startswith(f"{other}/") for other in below)]
    return sum(measured.parameter_bytes[row] for row in tops)
