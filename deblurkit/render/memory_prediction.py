"""What a run will take of memory, whether that is there, and what would free most: tables, sentences."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from deblurkit.render.memory_machine import NOTHING, size
from deblurkit.render.text import figure_table, indented
from deblurkit.tuning.host_memory import HostMemory
from deblurkit.tuning.memory_changes import Change
from deblurkit.tuning.run_memory import RunMemory
from deblurkit.tuning.step_memory import StepMemory
from deblurkit.tuning.verdicts import ResourceVerdict
from deblurkit.units import format_bytes, format_share

_LEAST = 0.01  # share of a peak that has a row of its own
_DEVICES = {"cpu": "a CPU", "cuda": "a GPU"}
_WHERE = {"device": "the GPU", "ram": "RAM", "shm": "/dev/shm"}


def prediction_sections(run: RunMemory) -> Iterator[RenderableType]:
    """Yield the verdicts first, then what they are made from, then what to change."""
    yield Text(f"\nWhat this run will take: {run.title}")
    yield verdict_table(run.verdicts)
    yield from (indented(f"{each.name}: {each.why}") for each in run.verdicts if each.verdict != "fits")
    yield Text(f"\nA training step on {_DEVICES[run.step.device_kind]} ({run.step.source})")
    yield owner_table(run.step)
    yield phase_table(run.step)
    if run.step.overheads:
        yield overhead_table(run.step)
    yield Text("\nOn the host, all processes together")
    yield host_table(run.host)
    yield from (indented(line) for line in host_lines(run.host))
    yield from _changes(run)
    if run.notes:
        yield Text("\nNotes")
        yield from (indented(note) for note in run.notes)


def verdict_table(verdicts: Sequence[ResourceVerdict]) -> Table:
    """Return whether each resource suffices."""
    table = figure_table("Resource", "available", "predicted", "margin")
    table.add_column("verdict", no_wrap=True)
    for each in verdicts:
        sizes = map(size, (each.available_bytes, each.predicted_bytes, each.margin_bytes))
        table.add_row(Text(each.name), *sizes, each.verdict)
    return table


def owner_table(step: StepMemory) -> Table:
    """Return what holds the memory of a step when it holds most, and when the forward pass ends."""
    peak = step.step_peak_bytes
    later = {row.name: row.bytes or 0 for row in step.after_forward}
    table = figure_table("Held by", "at the peak", "share", "after forward")
    shown = [row for row in step.rows if (row.bytes or 0) >= _LEAST * peak]
    for row in shown:
        held = row.bytes or 0
        table.add_row(Text(row.name), format_bytes(held), _share(held, peak), size(later.get(row.name)))
    rest = peak - sum(row.bytes or 0 for row in shown)
    if rest:
        after = step.after_forward_bytes - sum(later.get(row.name, 0) for row in shown)
        table.add_row("smaller ones", format_bytes(rest), _share(rest, peak), format_bytes(after))
    table.add_section()
    table.add_row("together", format_bytes(peak), _share(peak, peak), format_bytes(step.after_forward_bytes))
    return table


def phase_table(step: StepMemory) -> Table:
    """Return the most that is held in each phase."""
    table = figure_table("Phase", "most held", "of the peak")
    for name, held in step.phases.items():
        table.add_row(Text(name), format_bytes(held), _share(held, step.peak_bytes))
    return table


def overhead_table(step: StepMemory) -> Table:
    """Return what comes on top of tensors, and where each figure is from."""
    table = figure_table("On top of tensors", "bytes")
    table.add_column("how it is known", overflow="fold")
    for row in step.overheads:
        table.add_row(Text(row.name), size(row.bytes), Text(row.source))
    table.add_section()
    table.add_row("tensors, and what is known of these", format_bytes(step.total_bytes), "")
    return table


def host_table(host: HostMemory) -> Table:
    """Return what the processes of a run hold: how much each, how often, of which kind."""
    table = figure_table("Held", "each", "times", "together")
    table.add_column("kind", no_wrap=True)
    table.add_column("how it is known", overflow="fold")
    for row in host.rows:
        sizes = (format_bytes(row.each_bytes), f"{row.count:,}", format_bytes(row.bytes))
        table.add_row(Text(row.name), *sizes, row.kind, Text(row.source))
    return table


def host_lines(host: HostMemory) -> Iterator[str]:
    """Yield the sums, and what the same would be if every process had a cache of its own."""
    yield (
        f"{format_bytes(host.needed_bytes)} of RAM or of a cgroup; of it {format_bytes(host.shm_bytes)} in"
        f" /dev/shm and {format_bytes(host.pinned_bytes)} pinned"
    )
    if host.reclaimable_bytes:
        yield f"{format_bytes(host.reclaimable_bytes)} of page cache beside it, which others get back"
    if host.naive_bytes > host.needed_bytes:
        factor = host.naive_bytes / max(host.needed_bytes, 1)
        yield (f"{format_bytes(host.naive_bytes)}, {factor:.1f} x as much, if each process had its own cache")


def settings_of(change: Change) -> str:
    """Return a change as options of the command line."""
    return " ".join(f"--set {shlex.quote(setting)}" for setting in change.settings)


def price_of(change: Change) -> str:
    """Return what a change costs, and whether the run learns something else then."""
    return change.costs if change.keeps_result else f"{change.costs}; another result"


def _changes(run: RunMemory) -> Iterator[RenderableType]:
    if not run.changes:
        yield Text(f"\nNo change of a single setting frees more than 1 % of {_WHERE[run.resource]}.")
        return
    yield Text(f"\nWhat frees most of {_WHERE[run.resource]} (each by itself; they do not add up)")
    for change in run.changes:
        if change.is_combined:
            yield Text("\nWhat fits together, where none does alone")
        yield indented(f"{format_bytes(change.frees_bytes)}  {settings_of(change)}")
        yield indented(price_of(change), columns=4)


def _share(held: int, whole: int) -> str:
    return format_share(held / whole) if whole else NOTHING
