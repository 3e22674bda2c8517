"""The comparison of two logs as text that fits a terminal, and as plain values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deblurkit.analysis.bootstrap import Interval
from deblurkit.analysis.compare import Comparison, Side
from deblurkit.analysis.compare_scalars import QUALITY, QualityChange, Shift
from deblurkit.analysis.compare_steps import RowChange, StepChange, Verdict
from deblurkit.analysis.matched_rows import ALL_ELSE
from deblurkit.analysis.predicted_gains import GainCheck
from deblurkit.render.text import WIDTH, as_text, figure_table, indented
from deblurkit.units import format_bytes, format_ms, format_share, plural

_ADVERBS = {"moderate": "moderately", "material": "materially"}
_NAMES = {
    "cuda_allocated_bytes": "GPU memory, allocated",
    "cuda_reserved_bytes": "GPU memory, reserved",
    "process_memory_bytes": "process memory",
    "busy_share": "device busy",
    "overlap_share": "communication covered",
    "step_us": "step",
    "kernel_us": "kernels",
    "operator_us": "operators on the host",
    "runtime_us": "runtime calls",
    "launch_gap_us": "device idle, host late",
    "sync_us": "calls that wait",
    "data_us": "data loader",
    "copy_us": "copies on the device",
    "communication_us": "communication",
    "exposed_communication_us": "communication, exposed",
    "loss": "Loss",
    "psnr_db": "PSNR in dB",
    "ssim": "SSIM",
    "lpips": "LPIPS",
}


def comparison_as_text(comparison: Comparison, *, width: int = WIDTH) -> str:
    """Return a comparison to read, no line wider than ``width`` columns and none ending in blanks."""
    return as_text(Group(*comparison_parts(comparison)), width=width)


def comparison_as_json(comparison: Comparison) -> str:
    """Return one JSON document of `comparison_as_dict`, and a line end."""
    return json.dumps(comparison_as_dict(comparison), ensure_ascii=False, indent=2) + "\n"


def comparison_as_dict(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain values: milliseconds, shares as fractions of one, None for unknown."""
    steps = comparison.steps
    return {
        "a": vars(comparison.a),
        "b": vars(comparison.b),
        "verdict": vars(steps.verdict),
        "per": steps.per,
        "is_wall": steps.is_wall,
        "step_ratio": _plain(steps.step_ratio),
        "sample_ratio": _plain(steps.sample_ratio),
        "samples_per_second_ratio": _plain(steps.samples_per_second_ratio),
        "median_ratio": _rounded(steps.median_ratio),
        "phases": [_row_as_dict(row) for row in steps.rows],
        "quality": [
            {**vars(change), "difference": _plain(change.difference)} for change in comparison.quality
        ],
        "memory": [vars(shift) for shift in comparison.memory],
        "trace": [vars(shift) for shift in comparison.trace],
        "gains": [
            {
                "id": check.id,
                "verdict": check.verdict,
                "predicted": vars(check.predicted),
                "measured": _plain(check.measured),
                "phases": list(check.phases),
                "alone": check.alone,
            }
            for check in comparison.gains
        ],
        "notes": list(comparison.notes),
    }


def _row_as_dict(row: RowChange) -> dict[str, Any]:
    return {
        "key": row.key,
        "names_a": list(row.names_a),
        "names_b": list(row.names_b),
        "mean_a_ms": _rounded(row.mean_a),
        "mean_b_ms": _rounded(row.mean_b),
        "median_a_ms": _rounded(row.median_a),
        "median_b_ms": _rounded(row.median_b),
        "difference_ms": _plain(row.difference),
        "share_of_change": _plain(row.share),
        "verdict": row.verdict,
    }


def _plain(interval: Interval | None) -> dict[str, float | None] | None:
    return None if interval is None else {name: _rounded(value) for name, value in vars(interval).items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def comparison_parts(comparison: Comparison) -> Iterator[RenderableType]:
    """Yield a comparison as headings that begin with an empty line, indented sentences and tables."""
    steps = comparison.steps
    yield from _side("A", comparison.a)
    yield from _side("B", comparison.b)
    yield Text(f"\nVerdict: {_verdict(steps.verdict)}")
    yield from map(indented, _ratios(steps))
    if steps.rows:
        yield _phases(steps)
        yield from map(indented, _named(steps))
    if comparison.gains:
        yield Text("\nPredicted gains")
        yield from (indented(_gain(check)) for check in comparison.gains)
    if comparison.quality:
        yield Text("\nQuality")
        yield from (indented(_quality(change)) for change in comparison.quality)
    if comparison.memory:
        yield _shifts("Peak of memory", comparison.memory)
    if comparison.trace:
        yield _shifts("In the trace, a step", comparison.trace)
    if comparison.notes:
        yield Text("\nNotes")
        yield from map(indented, comparison.notes)


def _side(name: str, side: Side) -> Iterator[RenderableType]:
    yield Text(f"{name}  {side.source}")
    if side.mean_ms is None:
        yield indented("It tells no time of a step.", columns=3)
        return
    length = f"{plural(side.steps, 'step')}; a step takes {format_ms(side.mean_ms)} on average"
    if side.median_ms is not None:
        length += f", {format_ms(side.median_ms)} in the median"
    if side.samples_per_second is not None:
        length += f"; {side.samples_per_second:,.3g} samples a second"
    yield indented(f"{length}.", columns=3)


def _verdict(verdict: Verdict) -> str:
    if verdict.level == "same":
        return f"the same within {100 * (verdict.within or 0):.0f} %."
    if verdict.level in _ADVERBS:
        return f"B is {_ADVERBS[verdict.level]} {verdict.direction} than A."
    return f"cannot tell: {verdict.why}."


def _ratios(steps: StepChange) -> Iterator[str]:
    if steps.step_ratio is None:
        return
    what = "A step" if steps.is_wall else "What both logs name of a step"
    decides, other = f"{what} takes {_times(steps.step_ratio)} as long in B as in A", ""
    if steps.per == "sample" and steps.sample_ratio is not None:
        other = f"{decides}, with another number of samples."
        decides = f"A sample takes {_times(steps.sample_ratio)} as long in B as in A"
    median = f"; by the median, {steps.median_ratio:.3f} times" if steps.median_ratio is not None else ""
    yield f"{decides}{median}."
    if other:
        yield other
    if steps.samples_per_second_ratio is not None:
        yield f"B takes {_times(steps.samples_per_second_ratio)} as many samples a second."


def _times(ratio: Interval) -> str:
    return f"{ratio.value:.3f} times{_bounds(ratio, '{:.3f}')}"


def _bounds(interval: Interval, form: str) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f" ({form.format(interval.low)} to {form.format(interval.high)})"


def _phases(steps: StepChange) -> Table:
    table = figure_table(f"Phase, a {steps.per}", "A", "B", "change", "95 % interval", "share of change")
    for row in steps.rows:
        if row.difference is not None:
            table.add_row(
                Text(_label(row)),
                _ms(row.mean_a),
                _ms(row.mean_b),
                _signed_ms(row.difference.value),
                _interval_ms(row.difference),
                _share(row.share),
            )
    return table


def _label(row: RowChange) -> str:
    """Return what a row is called, in both logs where their names differ."""
    return row.key if row.key == ALL_ELSE else " / ".join(dict.fromkeys((*row.names_a, *row.names_b)))


def _ms(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else format_ms(milliseconds)


def _signed_ms(milliseconds: float) -> str:
    return f"{'+' if milliseconds > 0 else ''}{format_ms(milliseconds)}"


def _interval_ms(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return "-"
    return f"{_signed_ms(interval.low)} to {_signed_ms(interval.high)}"


def _share(share: Interval | None) -> str:
    if share is None:
        return "-"
    value, *bounds = (bound if bound is None else round(100 * bound) for bound in vars(share).values())
    return f"{value} %" if None in bounds else f"{value} % ({bounds[0]} to {bounds[1]})"


def _named(steps: StepChange) -> Iterator[str]:
    """Yield what got slower, what got faster, and what only one log has."""
    if any(row.verdict == "cannot tell" for row in steps.rows):
        yield "Which of these changes are more than chance cannot be told."
    else:
        for direction in ("slower", "faster"):
            rows = [row for row in steps.rows if row.verdict == direction]
            changes = ", ".join(map(_changed, rows)) or "no phase by more than chance"
            yield f"{direction.capitalize()}: {changes}."
    within = f", where it is part of {ALL_ELSE}" if any(row.key == ALL_ELSE for row in steps.rows) else ""
    for name in ("A", "B"):
        lone = [row for row in steps.rows if row.verdict == f"only in {name}"]
        if lone:
            yield f"Only in {name}{within}: {', '.join(map(_lone, lone))}."


def _changed(row: RowChange) -> str:
    return f"{_label(row)} by {format_ms(abs(row.difference.value))}" if row.difference else _label(row)


def _lone(row: RowChange) -> str:
    return f"{_label(row)} ({_ms(row.mean_b if row.mean_a is None else row.mean_a)})"


def _gain(check: GainCheck) -> str:
    predicted = check.predicted
    text = (
        f"{check.id}: {check.verdict}. Predicted: {predicted.likely:.2f} times as fast"
        f" ({predicted.low:.2f} to {predicted.high:.2f});"
        f" measured: {check.measured.value:.2f}{_bounds(check.measured, '{:.2f}')}"
    )
    if check.alone:
        return f"{text}."
    if check.phases:
        phases = " and ".join(check.phases)
        return f"{text}, by {phases} alone, as more than one prediction was tried at once."
    return f"{text}, by all that was tried at once."


def _quality(change: QualityChange) -> str:
    name, better = _NAMES[change.name], QUALITY[change.name] * change.difference.value
    difference = f"{change.difference.value:+.3g}{_bounds(change.difference, '{:+.3g}')}"
    where = f"{change.by}s {change.first:,.0f} to {change.last:,.0f}"
    verdict = change.verdict
    if verdict == "cannot tell":
        way = "better" if better > 0 else "worse" if better < 0 else "equal"
        verdict = f"{way} in B, but {plural(change.points, 'value')} cannot tell it from chance"
    return f"{name} at the same {where}: {change.a:.4g} in A, {change.b:.4g} in B, {difference}: {verdict}."


def _shifts(title: str, shifts: Sequence[Shift]) -> Table:
    table = figure_table(title, "A", "B", "change")
    for shift in shifts:
        form = _FORMS[shift.unit]
        sign = "+" if shift.b > shift.a else "-" if shift.b < shift.a else ""
        change = _points if shift.unit == "share" else form
        difference = f"{sign}{change(abs(shift.b - shift.a))}"
        table.add_row(_NAMES[shift.name], form(shift.a), form(shift.b), difference)
    return table


def _microseconds(count: float) -> str:
    return format_ms(count / 1000)


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


_FORMS = {"bytes": format_bytes, "us": _microseconds, "share": format_share}
