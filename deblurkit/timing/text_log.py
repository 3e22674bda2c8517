"""The text timing log: a block per step and a summary at the end, in columns that fit Chinese names."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.cells import cell_len

from deblurkit.timing.records import UNACCOUNTED, Beside, Note, StepTiming, children_of
from deblurkit.timing.statistics import Statistics
from deblurkit.timing.step_file import StepFile

RULE = "=" * 80
NAME_COLUMNS = 40
BESIDE = "# beside the steps: "


def pad(text: str, columns: int, fill: str = " ") -> str:
    """Return ``text`` filled up to ``columns`` terminal columns (a CJK character takes two)."""
    return text + fill * (columns - cell_len(text))


def header(*, rank: int, world_size: int, clock: str, samples_per_step: int | None, started_at: float) -> str:
    """Return the first line of a log: what its numbers are, and whose."""
    moment = datetime.datetime.fromtimestamp(started_at, tz=datetime.timezone.utc)
    started = moment.isoformat(timespec="seconds")
    samples = "unknown" if samples_per_step is None else samples_per_step
    return (
        f"# deblurkit timing log 1 | unit ms | rank {rank} of {world_size} | clock {clock}"
        f" | samples_per_step {samples} | started {started}\n"
    )


def format_step(timing: StepTiming, averages: Mapping[str, float]) -> str:
    """Return the block of one step: rows longest first, children indented, shares of a total that adds up."""
    rows = dict(timing.milliseconds)
    total = timing.total_ms
    if timing.unaccounted_ms > 0:
        rows[UNACCOUNTED] = timing.unaccounted_ms
    order = tuple(walk(rows))
    figures: list[float] = []
    for name, depth in order:
        milliseconds = rows[name]
        average = averages.get(name, milliseconds)
        if depth or total <= 0:
            figures += (milliseconds, average)
        else:
            figures += (milliseconds, 100 * milliseconds / total, average)
    head = f"{RULE}\nStep {timing.step}\n{RULE}\n"
    if timing.clock is not None:
        head = f"# step {timing.step} on the {timing.clock} clock\n{head}"
    return head + _block(order, total > 0) % (*figures, total)


@functools.lru_cache(maxsize=64)  # the same rows come step after step, mostly in the same order
def _block(order: tuple[tuple[str, int], ...], has_shares: bool) -> str:
    """Return the rows of a step with places for its figures."""
    lines = []
    for name, depth in order:
        share = " (%5.1f%%)" if has_shares and not depth else ""
        lines.append(_label(name, depth).replace("%", "%%") + f": %8.2fms{share} [avg: %8.2fms]")
    return "\n".join([*lines, f"{pad('Total', NAME_COLUMNS, '-')}: %8.2fms"]) + "\n"


def format_summary(num_steps: int, statistics: Mapping[str, Statistics]) -> str:
    """Return the closing table: mean, least and most milliseconds of every row, and in how many steps."""
    lines = [RULE, f"Timing Summary (Total {num_steps} steps)", RULE]
    for name, depth in walk({name: row.mean for name, row in statistics.items()}):
        row = statistics[name]
        lines.append(
            f"{_label(name, depth)}: avg={row.mean:8.2f}ms  min={row.least:8.2f}ms"
            f"  max={row.most:8.2f}ms  (n={row.count})"
        )
    return "\n".join(lines) + "\n"


class TextLog(StepFile):
    """Appends step blocks to a file, flushing every ``flush_interval`` steps."""

    def __init__(self, path: Path, *, head: str, flush_interval: int) -> None:
        super().__init__(path, flush_interval=flush_interval)
        self._file.write(head)
        self._file.flush()

    def write_step(self, timing: StepTiming, averages: Mapping[str, float]) -> None:
        """Append the block of one step."""
        self._file.write(format_step(timing, averages))
        self._step_written()

    def write_beside(self, beside: Beside) -> None:
        """Append what was done beside the steps, and what it took."""
        self._file.write(
            f"{BESIDE}{beside.seconds:.6f} s, {beside.count} times, after step {beside.after_step}:"
            f" {beside.name}\n"
        )

    def write_note(self, note: Note) -> None:
        """Append the line of what was told between two steps; it is on the disk at once."""
        if note.line:
            self._file.write(f"{note.line}\n")
            self._file.flush()

    def close(self, summary: str = "") -> None:
        """Append the summary, if any, and close the file."""
        if not self._file.closed:
            self._file.write(summary)
            self._file.close()


def walk(rows: Mapping[str, float]) -> Iterator[tuple[str, int]]:
    """Yield (name, depth): top-level rows longest first, each followed by its children likewise."""
    children = children_of(tuple(rows))
    if len(children) == 1:
        yield from [(name, 0) for name in sorted(rows, key=rows.__getitem__, reverse=True)]
        return

    def shortest_first(names: tuple[str, ...]) -> list[str]:
        return sorted(names, key=rows.__getitem__, reverse=True)[::-1]

    pending = [(name, 0) for name in shortest_first(children.get("", ()))]
    while pending:
        name, depth = pending.pop()
        yield name, depth
        if name in children:
            pending += [(child, depth + 1) for child in shortest_first(children[name])]


@functools.lru_cache(maxsize=4096)  # the same rows come step after step
def _label(name: str, depth: int) -> str:
    if depth == 0:
        return pad(name, NAME_COLUMNS)
    indent = "  " * depth + "- "
    return indent + pad(name.rpartition("/")[2], NAME_COLUMNS - 2 - 2 * depth)
