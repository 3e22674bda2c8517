"""A profile of a training step as one HTML file: an icicle picture for each pass, and the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from rich.cells import cell_len, chop_cells

from deblurkit.render.icicle_page import BODY, COLOURS, POINTING, STYLE
from deblurkit.render.page_style import page_of
from deblurkit.render.profile import giga, heading, shape_text
from deblurkit.training.profiling.gains import LEAST_SHARE
from deblurkit.training.profiling.records import Passes, Row, StepProfile
from deblurkit.units import format_bytes, format_ms, format_share

WIDTH = 1160.0  # of a band [px of the drawing]
_BAR = 26.0
_LETTER = 7.2  # width of a column of text at this size [px]
_PADDING = 5.0
_THINNEST = 0.4  # cells below this are not drawn [px]
_WORDS = {"Phase", "Module", "in", "out"}  # columns that are no figures
_GOLDEN = 137.508  # degrees between hues: neighbours always look different


@dataclass(frozen=True)
class Cell:
    """A bar of the picture and those below it.

    Attributes:
        name: written into it, as far as it fits.
        milliseconds: its width.
        facts: shown when the pointer is on it.
        hue: of its colour [degrees]; None for grey.
        children: side by side below it, from its left edge.
    """

    name: str
    milliseconds: float
    facts: str
    hue: float | None = None
    children: tuple[Cell, ...] = field(default=())

    @property
    def levels(self) -> int:
        """Rows of bars that it and its children take."""
        return 1 + max((child.levels for child in self.children), default=0)


def profile_as_html(profile: StepProfile) -> str:
    """Return a page that needs nothing else: no network, no other file; every name in it is escaped."""
    bands = [_band("Step", "phases in their order", _phase_cells(profile), profile.step_ms)]
    for part, title in (("forward", "Forward"), ("backward", "Backward"), ("recompute", "Recompute")):
        cells = _row_cells(profile, part)
        total = sum(cell.milliseconds for cell in cells)
        if total > 0 and profile.rows:
            share = format_share(total / profile.step_ms)
            about = f"{format_ms(total)}, {share} of the step; to a scale of its own"
            bands.append(_band(title, about, cells, total))
    body = BODY.substitute(
        facts="".join(f"<p>{escape(line)}</p>" for line in heading(profile)),
        bands="\n".join(bands),
        gains=_gains(profile),
        phases=_phase_table(profile),
        rows=_row_table(profile),
        notes="".join(f"<li>{escape(note)}</li>" for note in profile.notes),
    )
    title = f"{profile.subject.architecture}: a training step of {format_ms(profile.step_ms)}"
    return page_of(title, body, style=STYLE, colours=COLOURS, scripts=[POINTING], has_policy=False)


def _band(title: str, about: str, cells: Sequence[Cell], total: float) -> str:
    """Return a heading and a drawing in which ``total`` milliseconds are as wide as the page."""
    height = _BAR * max((cell.levels for cell in cells), default=0)
    drawn = "".join(_drawn(cells, left=0.0, level=0, per_ms=WIDTH / total if total > 0 else 0.0))
    return (
        f"<h2>{escape(title)} <small>{escape(about)}</small></h2>"
        f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">{drawn}</svg>'
    )


def _drawn(cells: Sequence[Cell], *, left: float, level: int, per_ms: float) -> Iterator[str]:
    for cell in cells:
        width = cell.milliseconds * per_ms
        if width >= _THINNEST:
            yield _bar(cell, left=left, top=_BAR * level, width=width, level=level)
            yield from _drawn(cell.children, left=left, level=level + 1, per_ms=per_ms)
        left += width


def _bar(cell: Cell, *, left: float, top: float, width: float, level: int) -> str:
    facts = escape(f"{cell.name}: {cell.facts}")
    fill = "var(--rest)" if cell.hue is None else f"hsl({cell.hue:.0f} 52% {min(86, 66 + 7 * level)}%)"
    label = fitted(cell.name, width - 2 * _PADDING)
    text = f'<text x="{left + _PADDING:.2f}" y="{top + 17:.2f}">{escape(label)}</text>' if label else ""
    return (
        f'<g class="cell" tabindex="0" data-facts="{facts}"><title>{facts}</title>'
        f'<rect x="{left:.2f}" y="{top:.2f}" width="{max(width - 0.8, 0.4):.2f}" height="{_BAR - 1:.2f}"'
        f' style="fill:{fill}"/>{text}</g>'
    )


def fitted(name: str, width: float) -> str:
    """Return as much of a name as ``width`` pixels hold, nothing where that says nothing."""
    columns = int(width / _LETTER)
    if cell_len(name) <= columns:
        return name
    return chop_cells(name, columns - 1)[0] + "…" if columns >= 3 else ""


def _phase_cells(profile: StepProfile) -> list[Cell]:
    return [
        Cell(
            phase.name,
            max(phase.mean_ms, 0.0),
            f"{format_ms(phase.mean_ms)}, {format_share(phase.share)} of the step"
            + (f", {giga(phase.flops)} GFLOP" if phase.flops else "")
            + (f", peak memory {format_bytes(phase.peak_bytes)}" if phase.peak_bytes is not None else ""),
            hue=200 + 40.0 * number,
            children=_backward_parts(profile) if phase.name == "backward" else (),
        )
        for number, phase in enumerate(profile.phases)
    ]


def _backward_parts(profile: StepProfile) -> tuple[Cell, ...]:
    """Return the backward phase without what is made again, and that; nothing where nothing is."""
    again = sum(profile.recompute_ms.values())
    if again <= 0:
        return ()
    rest = profile.phase_ms("backward") - again
    return (
        Cell("gradients", rest, _time_facts(rest, profile), 20.0),
        Cell("recompute", again, _time_facts(again, profile), 45.0),
    )


def _row_cells(profile: StepProfile, part: str) -> list[Cell]:
    """Return the outermost rows with those inside them, by their time in one pass; then what is in none."""
    named = [row.name for row in profile.rows if row.depth <= 1]
    hues = {name: (210 + _GOLDEN * number) % 360 for number, name in enumerate(named)}
    cells = list(_inside("", profile, part, hues))
    outside = getattr(profile.outside_ms, part)
    if outside > 0:
        cells.append(Cell("outside of these", outside, _time_facts(outside, profile)))
    return cells


def _inside(parent: str, profile: StepProfile, part: str, hues: dict[str, float]) -> Iterator[Cell]:
    for row in profile.rows:
        above, _, label = row.name.rpartition("/")
        milliseconds = getattr(row.ms, part)
        if above != parent or milliseconds <= 0:
            continue
        hue = hues["/".join(row.name.split("/")[:2])]
        children = tuple(_inside(row.name, profile, part, hues))
        yield Cell(label, milliseconds, _facts(row, part, profile), hue, children)


def _facts(row: Row, part: str, profile: StepProfile) -> str:
    milliseconds, own = getattr(row.ms, part), getattr(row.own_ms, part)
    flops, moved = getattr(row.flops, part), getattr(row.bytes_moved, part)
    rate = f", {giga(1e3 * flops / milliseconds)} GFLOP/s" if flops and milliseconds > 0 else ""
    calls = f", {row.calls} x" if row.calls > 1 else ""
    return (
        f"{_time_facts(milliseconds, profile)}, {format_ms(own)} in no row inside it,"
        f" {giga(flops)} GFLOP{rate}, {format_bytes(moved)} moved{calls}"
    )


def _time_facts(milliseconds: float, profile: StepProfile) -> str:
    return f"{format_ms(milliseconds)}, {format_share(milliseconds / profile.step_ms)} of the step"


def _gains(profile: StepProfile) -> str:
    if not profile.gains:
        return f"<p>Nothing here would save more than {format_share(LEAST_SHARE)} of a step.</p>"
    items = "".join(
        f"<li><b>{gain.speedup:.2f} x</b> {escape(gain.title)}"
        f" <code>{escape(', '.join(gain.keys))}</code><br>"
        f"<small>{escape(gain.arithmetic)}. {escape(gain.cost)}</small></li>"
        for gain in profile.gains
    )
    return f"<ul>{items}</ul>"


def _phase_table(profile: StepProfile) -> str:
    head = ("Phase", "mean", "median", "share", "GFLOP", "peak memory")
    body = [
        (
            phase.name,
            format_ms(phase.mean_ms),
            format_ms(phase.median_ms),
            format_share(phase.share),
            giga(phase.flops) if phase.flops else "-",
            "-" if phase.peak_bytes is None else format_bytes(phase.peak_bytes),
        )
        for phase in profile.phases
    ]
    return _table(head, body)


def _row_table(profile: StepProfile) -> str:
    if not profile.rows:
        return ""
    mfu = ("MFU",) if profile.peak is not None else ()
    head = ("Module", "calls", "forward", "backward", "recompute", "own", "share", "GFLOP", "GFLOP/s")
    body = [_row_figures(row, profile) for row in profile.rows]
    return _table((*head, *mfu, "moved", "weights", "in", "out"), body)


def _row_figures(row: Row, profile: StepProfile) -> tuple[str, ...]:
    rate, used = row.flops_per_second, row.utilisation(profile.peak)
    mfu = () if profile.peak is None else (format_share(used) if used else "-",)
    return (
        "\u2003" * row.depth + row.name.rpartition("/")[2],
        str(row.calls) if row.calls else "-",
        *_times(row.ms),
        format_ms(row.own_ms.total),
        format_share(row.share),
        giga(row.flops.total) if row.flops.total else "-",
        giga(rate) if rate and row.flops.total else "-",
        *mfu,
        format_bytes(row.bytes_moved.total),
        format_bytes(row.parameter_bytes),
        shape_text(row.inputs) if row.inputs else "-",
        shape_text(row.outputs) if row.outputs else "-",
    )


def _times(passes: Passes) -> list[str]:
    values = (passes.forward, passes.backward, passes.recompute)
    return [format_ms(value) if value else "-" for value in values]


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return an HTML table; columns of words are on the left, those of figures on the right."""
    sides = [' class="left"' if title in _WORDS else "" for title in head]
    titles = "".join(f"<th{side}>{escape(title)}</th>" for side, title in zip(sides, head, strict=True))
    rows = "".join(
        "<tr>"
        + "".join(f"<td{side}>{escape(value)}</td>" for side, value in zip(sides, row, strict=True))
        + "</tr>"
        for row in body
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>"
