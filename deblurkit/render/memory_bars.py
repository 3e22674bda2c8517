"""Memory as bars: what is there, who holds it, and what a run would add; drawn as SVG without a script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from deblurkit.memory.gpu import GpuState
from deblurkit.memory.limits import Resource
from deblurkit.memory.look import Look, name_of
from deblurkit.render.analysis_page.plain import in_html, in_plot
from deblurkit.tuning.verdicts import ResourceVerdict
from deblurkit.units import format_bytes

WIDTH = 1100.0  # of a drawing [px]
_NAME, _BAR, _ROW = 17.0, 24.0, 58.0  # heights [px]: baseline of a name, a bar, all of it
_LETTER, _PADDING = 7.4, 5.0
_THINNEST = 0.5  # px: what is thinner is not drawn
_FEWEST_LETTERS = 3
_DRAWN = ("ram", "swap", "commit", "cgroup", "shm")
_HUES = (205, 20, 140, 280, 45, 330, 170, 0, 95, 240)


@dataclass(frozen=True)
class Part:
    """A piece of a bar.

    Attributes:
        label: written into it, as far as it fits.
        bytes: its length.
        fill: its colour, as CSS.
    """

    label: str
    bytes: int
    fill: str


@dataclass(frozen=True)
class Bar:
    """A bar with a name.

    Attributes:
        name: written above it, on the left.
        about: likewise, on the right.
        parts: from left to right.
        limit: bytes at which there is a mark; None for none.
    """

    name: str
    about: str
    parts: tuple[Part, ...]
    limit: int | None = None

    @property
    def length(self) -> int:
        """Bytes that the whole width stands for."""
        return max(sum(part.bytes for part in self.parts), self.limit or 0, 1)


def resource_bars(look: Look, verdicts: Sequence[ResourceVerdict]) -> list[Bar]:
    """Return a bar for each limit and GPU: what is taken, what the run would add, what is left."""
    judged = {each.name: each for each in verdicts}
    bars = [_limit_bar(limit, judged) for limit in look.limits if _is_drawn(limit)]
    return bars + [_gpu_bar(gpu, judged) for gpu in look.gpus.gpus if gpu.total_bytes is not None]


def stacked_bar(name: str, held: Sequence[tuple[str, int]]) -> Bar:
    """Return a bar of parts in colours of their own, as long as all of them together."""
    parts = [
        Part(label, count, f"hsl({_HUES[number % len(_HUES)]} 50% 72%)")
        for number, (label, count) in enumerate(held)
    ]
    return Bar(name, format_bytes(sum(count for _, count in held)), tuple(parts))


def drawn(bars: Sequence[Bar], *, common_scale: bool = False) -> str:
    """Return bars as SVG, each as wide as the page, or all to the scale of the longest one.

    Whatever names hold, the page shows it letter by letter.
    """
    if not bars:
        return ""
    longest = max(bar.length for bar in bars)
    rows = "".join(
        _row(bar, top=_ROW * number, per_byte=WIDTH / (longest if common_scale else bar.length))
        for number, bar in enumerate(bars)
    )
    return f'<svg viewBox="0 0 {WIDTH:.0f} {_ROW * len(bars):.0f}" role="img">{rows}</svg>'


def _is_drawn(limit: Resource) -> bool:
    return limit.kind in _DRAWN and bool(limit.limit_bytes) and limit.available_bytes is not None


def _limit_bar(limit: Resource, judged: Mapping[str, ResourceVerdict]) -> Bar:
    whole, there = limit.limit_bytes or 0, limit.available_bytes or 0
    taken = Part("taken", max(0, whole - there), "var(--taken)")
    return _with_run(name_of(limit), whole, there, (taken,), judged)


def _gpu_bar(gpu: GpuState, judged: Mapping[str, ResourceVerdict]) -> Bar:
    whole, there = gpu.total_bytes or 0, gpu.free_bytes or 0
    parts = [
        Part(f"{holder.user or 'unknown'} ({holder.pid})", holder.bytes or 0, "var(--taken)")
        for holder in gpu.holders
    ]
    parts.append(Part("driver", gpu.unaccounted_bytes or 0, "var(--rest)"))
    name = f"GPU {gpu.index}"
    bar = _with_run(name, whole, there, tuple(parts), judged)
    return Bar(f"{name} {gpu.name or ''}".rstrip(), bar.about, bar.parts, bar.limit)


def _with_run(
    name: str, whole: int, there: int, taken: tuple[Part, ...], judged: Mapping[str, ResourceVerdict]
) -> Bar:
    found = judged.get(name)
    needed = 0 if found is None else found.predicted_bytes or 0
    fill = "var(--bad)" if needed > there else "var(--run)"
    parts = (*taken, Part("this run", needed, fill), Part("free", max(0, there - needed), "var(--free)"))
    about = f"{format_bytes(there)} of {format_bytes(whole)} available"
    if found is not None:
        about += f"; {format_bytes(needed)} predicted: {found.verdict}"
    return Bar(name, about, parts, whole)


def _row(bar: Bar, *, top: float, per_byte: float) -> str:
    name = f'<text class="name" x="0" y="{top + _NAME:.0f}">{in_html(bar.name)}</text>'
    about = f'<text x="{WIDTH:.0f}" y="{top + _NAME:.0f}" text-anchor="end">{in_html(bar.about)}</text>'
    parts = "".join(_parts(bar, top=top + _NAME + 6, per_byte=per_byte))
    mark = "" if bar.limit is None else _mark(bar.limit * per_byte, top + _NAME + 3)
    return name + about + parts + mark


def _parts(bar: Bar, *, top: float, per_byte: float) -> Iterator[str]:
    left = 0.0
    for part in bar.parts:
        width = part.bytes * per_byte
        if width >= _THINNEST:
            facts = in_html(f"{part.label}: {format_bytes(part.bytes)}")
            yield (
                f'<g><title>{facts}</title><rect x="{left:.2f}" y="{top:.1f}" width="{width:.2f}"'
                f' height="{_BAR:.0f}" style="fill:{part.fill}"/>{_label(part, left, top, width)}</g>'
            )
        left += width


def _label(part: Part, left: float, top: float, width: float) -> str:
    columns = int((width - 2 * _PADDING) / _LETTER)
    if columns < _FEWEST_LETTERS:
        return ""
    text = in_plot(part.label, columns=columns)
    return f'<text class="in" x="{left + _PADDING:.2f}" y="{top + 16:.1f}">{text}</text>'


def _mark(at: float, top: float) -> str:
    left = min(at, WIDTH - 1)
    return f'<rect class="mark" x="{left:.2f}" y="{top:.1f}" width="1.5" height="{_BAR + 6:.0f}"/>'
