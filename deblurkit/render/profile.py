"""A profile of a training step as text for a terminal, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deblurkit.render.text import as_text, figure_table, indented
from deblurkit.timing.records import UNACCOUNTED
from deblurkit.training.profiling.gains import LEAST_SHARE
from deblurkit.training.profiling.records import Passes, Row, Shape, StepProfile
from deblurkit.units import format_bytes, format_count, format_ms, format_rate, format_share, plural

SCHEMA = "deblurkit-profile-step/1"
WIDTH = 110
_PASSES = ("forward", "backward", "recompute")


def profile_as_text(profile: StepProfile, *, shapes: bool = False) -> str:
    """Return the tables of a profile to read; with ``shapes`` also what each row takes and gives."""
    parts: list[RenderableType] = [Text(line) for line in heading(profile)]
    parts += [_phases(profile)]
    if profile.rows:
        parts += [_rows(profile)]
    if shapes:
        parts += [Text("Shapes of the first call"), *_shapes(profile), Text()]
    parts += [*_gains(profile)]
    if profile.notes:
        parts += [Text("\nNotes"), *(indented(note) for note in profile.notes)]
    return as_text(Group(*parts), width=WIDTH)


def heading(profile: StepProfile) -> list[str]:
    """Return what was profiled and how fast it is, in two or three lines."""
    subject = profile.subject
    clips = " x ".join(map(str, subject.blurry_shape))
    spikes = "" if subject.spikes_shape is None else f", voxels {' x '.join(map(str, subject.spikes_shape))}"
    batch = f"{plural(subject.accumulation, 'micro-step')} of " if subject.accumulation > 1 else ""
    rate = 1e3 * subject.samples / profile.step_ms if profile.step_ms > 0 else 0.0
    lines = [
        f"{subject.architecture} ({format_count(subject.parameters)} parameters) on {subject.device_name},"
        f" {subject.precision}",
        f"{batch}clips {clips}{spikes}; {subject.data} data",
        f"A step takes {format_ms(profile.step_ms)} on average, {format_ms(profile.median_step_ms)} in the"
        f" median, over {plural(profile.steps, 'step')} after {profile.warmup};"
        f" {format_rate(rate)} samples a second.",
    ]
    if profile.flops is not None:
        per_second = 1e3 * profile.flops.total / profile.step_ms / 1e9
        lines.append(
            f"It computes {giga(profile.flops.total)} GFLOP, {per_second:,.1f} GFLOP/s"
            f"{_utilisation(profile)}."
        )
    return lines


def _utilisation(profile: StepProfile) -> str:
    if profile.utilisation is None or profile.peak is None:
        return ""
    peak = profile.peak
    return (
        f"; MFU {format_share(profile.utilisation)} of the {peak.flops_per_second / 1e12:.1f} TFLOP/s that a"
        f" {peak.device} has in {peak.dtype} ({peak.source})"
    )


def giga(count: float) -> str:
    """Return a count in units of 10^9 with about three digits."""
    value = count / 1e9
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _phases(profile: StepProfile) -> Table:
    table = figure_table("Phase", "mean", "median", "share", "GFLOP", "GFLOP/s", "peak memory")
    for phase in profile.phases:
        rate = 1e3 * phase.flops / phase.mean_ms if phase.flops and phase.mean_ms > 0 else None
        table.add_row(
            Text(phase.name),
            format_ms(phase.mean_ms),
            format_ms(phase.median_ms),
            format_share(phase.share),
            giga(phase.flops) if phase.flops else "-",
            "-" if rate is None else giga(rate),
            "-" if phase.peak_bytes is None else format_bytes(phase.peak_bytes),
        )
    table.add_section()
    table.add_row(
        Text("step"),
        format_ms(sum(phase.mean_ms for phase in profile.phases)),
        format_ms(profile.median_step_ms),
        format_share(sum(phase.share for phase in profile.phases)),
        "-" if profile.flops is None else giga(profile.flops.total),
        "-" if profile.flops is None else giga(1e3 * profile.flops.total / profile.step_ms),
        "-" if profile.peak_bytes is None else format_bytes(profile.peak_bytes),
    )
    return table


def _rows(profile: StepProfile) -> Table:
    mfu = ["MFU"] if profile.peak is not None else []
    table = figure_table("Module", *_PASSES, "share", "GFLOP", "GFLOP/s", *mfu, "moved")
    for row in profile.rows:
        name = "  " * row.depth + row.name.rpartition("/")[2]
        utilisation = row.utilisation(profile.peak)
        rate = row.flops_per_second
        table.add_row(
            Text(name),
            *_times(row.ms),
            format_share(row.share),
            giga(row.flops.total) if row.flops.total else "-",
            giga(rate) if rate and row.flops.total else "-",
            *(["-" if not utilisation else format_share(utilisation)] if mfu else []),
            format_bytes(row.bytes_moved.total),
        )
    outside, share = profile.outside_ms, profile.outside_ms.total / profile.step_ms
    table.add_row(Text("outside of these"), *_times(outside), format_share(share))
    table.add_section()
    whole = sum((row.own_ms for row in profile.rows), outside)
    table.add_row(Text("forward and backward"), *_times(whole), format_share(whole.total / profile.step_ms))
    return table


def _times(passes: Passes) -> list[str]:
    return [format_ms(value) if value else "-" for value in map(passes.__getattribute__, _PASSES)]


def _shapes(profile: StepProfile) -> Iterator[RenderableType]:
    for row in profile.rows:
        if row.inputs or row.outputs:
            yield indented(f"[{row.name}] {shape_text(row.inputs)} -> {shape_text(row.outputs)}")


def shape_text(shapes: tuple[Shape, ...]) -> str:
    """Return shapes as ``(1, 6, 64, 64, 96), (2,)``, long lists cut."""
    shown = ", ".join(f"({', '.join(map(str, shape))})" for shape in shapes[:4])
    return f"{shown}, and {len(shapes) - 4} more" if len(shapes) > 4 else shown or "no tensor"


def _gains(profile: StepProfile) -> Iterator[RenderableType]:
    if not profile.gains:
        yield Text(f"Nothing here would save more than {format_share(LEAST_SHARE)} of a step.")
        return
    yield Text("What would speed it up most (each by itself; they do not add up)")
    for gain in profile.gains:
        yield indented(f"{gain.speedup:.2f} x  {gain.title}: {', '.join(gain.keys) or 'no key'} [{gain.id}]")
        yield indented(gain.arithmetic, columns=4)
        yield indented(gain.cost, columns=4)


def profile_as_json(profile: StepProfile) -> str:
    """Return the profile as one JSON document; docs/profile-step.md names its fields."""
    return json.dumps(profile_as_dict(profile), ensure_ascii=False, indent=2, allow_nan=False)


def profile_as_dict(profile: StepProfile) -> dict[str, Any]:
    """Return the profile's JSON object: milliseconds to 4 decimals, shares as fractions of one."""
    subject = asdict(profile.subject)
    return {
        "schema": SCHEMA,
        **subject,
        "steps": profile.steps,
        "warmup_steps": profile.warmup,
        "step_ms": {"mean": _rounded(profile.step_ms), "median": _rounded(profile.median_step_ms)},
        "samples_per_second": _rounded(1e3 * profile.subject.samples / profile.step_ms),
        "flops": None if profile.flops is None else _counts(profile.flops),
        "peak": None if profile.peak is None else asdict(profile.peak),
        "mfu": _rounded(profile.utilisation),
        "peak_bytes": profile.peak_bytes,
        "phases": [
            {
                "name": phase.name,
                "mean_ms": _rounded(phase.mean_ms),
                "median_ms": _rounded(phase.median_ms),
                "share": _rounded(phase.share, digits=6),
                "flops": None if phase.flops is None else round(phase.flops),
                "peak_bytes": phase.peak_bytes,
            }
            for phase in profile.phases
        ],
        "unaccounted_ms": _rounded(profile.phase_ms(UNACCOUNTED)),
        "rows": [_row_as_dict(row, profile) for row in profile.rows],
        "outside_ms": _milliseconds(profile.outside_ms),
        "recompute_ms": {kind: _rounded(ms) for kind, ms in profile.recompute_ms.items()},
        "gains": [asdict(gain) for gain in profile.gains],
        "notes": list(profile.notes),
    }


def _row_as_dict(row: Row, profile: StepProfile) -> dict[str, Any]:
    return {
        "name": row.name,
        "modules": list(row.modules),
        "calls": row.calls,
        "own_ms": _milliseconds(row.own_ms),
        "ms": _milliseconds(row.ms),
        "share": _rounded(row.share, digits=6),
        "flops": _counts(row.flops),
        "gflops_per_second": None if row.flops_per_second is None else round(row.flops_per_second / 1e9, 3),
        "mfu": _rounded(row.utilisation(profile.peak)),
        "bytes_moved": _counts(row.bytes_moved),
        "parameter_bytes": row.parameter_bytes,
        "inputs": [list(shape) for shape in row.inputs],
        "outputs": [list(shape) for shape in row.outputs],
    }


def _milliseconds(passes: Passes) -> dict[str, float]:
    return {name: round(value, 4) for name, value in asdict(passes).items()}


def _counts(passes: Passes) -> dict[str, int]:
    return {name: round(value) for name, value in asdict(passes).items()}


def _rounded(value: float | None, *, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)
