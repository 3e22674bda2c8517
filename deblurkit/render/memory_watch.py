"""A machine's memory as it goes on: drawn in place on a terminal, a line a period anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deblurkit.memory.gpu import GpuState
from deblurkit.memory.look import Look, Sources, glance, name_of, program_of
from deblurkit.memory.processes import Group as ProcessGroup
from deblurkit.memory.sparing import Sparing
from deblurkit.memory.trend import WINDOW, Courses, seconds_left, thinned, trend_of
from deblurkit.render.follow import sparkline
from deblurkit.render.memory import moment
from deblurkit.render.memory_machine import NOTHING, group_name, size
from deblurkit.tuning.verdicts import ResourceVerdict
from deblurkit.units import format_bytes, format_duration, format_share

Judge = Callable[[Look], Sequence[ResourceVerdict]]

_BOUNDS = ("ram", "swap", "commit", "cgroup", "shm")  # limits that are drawn
_FIGURE, _LEFT, _GAP = 10, 14, 2  # columns
_NARROWEST, _WIDEST = 16, 44  # columns of a name
_LEAST_CURVE = 4  # columns
_FLAT = 0.01  # share of the whole below which a change is drawn as none
_FEWEST_USERS = 3
_SOON = 600.0  # seconds
_STYLES = {"does not fit": "red", "tight": "yellow", "cannot know": "dim"}


@dataclass(frozen=True)
class Row:
    """Something that is watched.

    Attributes:
        name: of it, the same at every look.
        label: what is shown.
        whole: all of it [bytes]; None where there is no such thing.
        now: what is available, or, of a run, held.
        curve: what was in use, oldest first.
        seconds: until nothing is left; None where that is not in sight.
        per_second: bytes that are added a second; None where that is not clear.
    """

    name: str
    label: str
    whole: int | None
    now: int | None
    curve: tuple[float, ...] = ()
    seconds: float | None = None
    per_second: float | None = None


@dataclass(frozen=True)
class Frame:
    """A look, and what it adds to those before it.

    Attributes:
        look: at the machine.
        resources: limits and GPUs.
        runs: trees of processes, and the groups in them.
        verdicts: on the run that is waited for.
    """

    look: Look
    resources: tuple[Row, ...]
    runs: tuple[Row, ...]
    verdicts: tuple[ResourceVerdict, ...] = ()


def watch(
    sources: Sources, *, seconds: float, pid: int | None = None, judge: Judge | None = None
) -> Iterator[Frame]:
    """Yield what is seen now and every so many seconds from now on; until a process that was named ends.

    PSS and USS, which take long, are those of an earlier look where the looks come too fast for them.

    Args:
        sources: who tells of the machine; their ``sleep`` waits.
        seconds: from one look to the next.
        pid: of a process whose tree and limits are wanted; None is who asks, and its runs.
        judge: gives the verdicts on a run; None where none is waited for.
    """
    courses = Courses()
    sources = replace(sources, processes=Sparing(sources.processes))
    while True:
        began = sources.clock()
        seen = glance(sources, pid=pid)
        if pid is not None and not seen.trees:
            return
        yield frame_of(seen, courses, verdicts=() if judge is None else judge(seen))
        sources.sleep(max(0.0, seconds - (sources.clock() - began)))


def frame_of(look: Look, courses: Courses, *, verdicts: Sequence[ResourceVerdict] = ()) -> Frame:
    """Return a look with the courses of what is seen, which it is added to."""
    there, held = list(_resources(look)), list(_held(look))
    courses.add(look.at, {row.name: row.now for row in (*there, *held)})
    resources = [_with_end(row, courses.of(row.name)) for row in there]
    runs = [_with_change(row, courses.of(row.name)) for row in held]
    return Frame(look, tuple(resources), tuple(runs), tuple(verdicts))


def show_watch(frames: Iterable[Frame], *, seconds: float, console: Console | None = None) -> bool:
    """Show every frame as it comes; return whether they came to an end, and not by Ctrl-C."""
    screen = console if console is not None else Console(highlight=False)
    try:
        if not screen.is_terminal:
            for frame in frames:
                screen.print(Text(watch_line(frame)), soft_wrap=True)
            return True
        was_there = screen.file.isatty()
        with Live(console=screen, auto_refresh=False) as live:
            for frame in frames:
                if was_there and not screen.file.isatty():  # closed: nobody looks any more
                    return False
                live.update(watch_screen(frame, screen.width, screen.height, seconds=seconds), refresh=True)
    except KeyboardInterrupt:
        return False
    return True


def watch_line(frame: Frame) -> str:
    """Return a frame as a line: when, what is left of everything, what runs hold."""
    parts = [moment(frame.look.at)]
    for row in frame.resources:
        soon = "" if row.seconds is None else f", none in {format_duration(row.seconds)}"
        parts.append(f"{row.name} {size(row.now)} of {size(row.whole)} available{soon}")
    parts += [f"{row.label.strip()} {size(row.now)}{_change(row, ' ')}" for row in frame.runs]
    parts += [f"{each.name} {each.verdict}" for each in frame.verdicts]
    return " | ".join(parts)


def watch_screen(frame: Frame, width: int, height: int, *, seconds: float) -> RenderableType:
    """Return what a terminal of that size shows."""
    look = frame.look
    head = f"{look.hostname}  {moment(look.at)}  every {seconds:g} s, the last {WINDOW / 60:.0f} min"
    parts: list[RenderableType] = [
        Text(head, style="bold", no_wrap=True, overflow="ellipsis"),
        Text(),
        _resource_table(frame.resources, width),
        *(Text(line, no_wrap=True, overflow="ellipsis") for line in _pressure_lines(look)),
    ]
    if frame.runs:
        parts += [Text(), _run_table(frame.runs, width)]
    if frame.verdicts:
        parts += [Text(), _verdict_table(frame.verdicts, width)]
    used = 8 + len(frame.resources) + len(frame.runs) + len(frame.verdicts)
    used += 2 * bool(frame.runs) + 2 * bool(frame.verdicts)
    parts += [Text(), _holder_table(look, width, most=max(_FEWEST_USERS, height - used - 1))]
    parts.append(Text("Ctrl-C ends", style="dim"))
    return Group(*parts)


def _resources(look: Look) -> Iterator[Row]:
    """Yield each limit that is set and each GPU, with what is available."""
    for limit in look.limits:
        if limit.kind in _BOUNDS and limit.limit_bytes:
            name = name_of(limit)
            yield Row(name, name, limit.limit_bytes, limit.available_bytes)
    for gpu in look.gpus.gpus:
        yield Row(f"GPU {gpu.index}", _gpu_label(gpu), gpu.total_bytes, gpu.free_bytes)


def _gpu_label(gpu: GpuState) -> str:
    busy = "" if gpu.busy_percent is None else f" {gpu.busy_percent:.0f} %"
    users = dict.fromkeys(holder.user or "unknown" for holder in gpu.holders)
    return f"GPU {gpu.index}{busy} {', '.join(users)}".rstrip()


def _held(look: Look) -> Iterator[Row]:
    """Yield each run and, where it has several, its groups, with the memory that they hold."""
    for tree in look.trees:
        pid, program = tree.root.pid, program_of(tree.root)
        yield Row(str(pid), f"{pid} {program}", None, _bytes_of(tree.total))
        for group in tree.groups if len(tree.groups) > 1 else ():
            yield Row(f"{pid} {group.role} {group.rank}", f"  {group_name(group)}", None, _bytes_of(group))


def _bytes_of(group: ProcessGroup) -> int:
    return group.rss_bytes if group.pss_bytes is None else group.pss_bytes


def _with_end(row: Row, points: Sequence[tuple[float, float]]) -> Row:
    used = tuple((row.whole or 0) - value for _, value in points)
    return replace(row, curve=used, seconds=seconds_left(points))


def _with_change(row: Row, points: Sequence[tuple[float, float]]) -> Row:
    trend = trend_of(points)
    clear = trend.per_second if trend is not None and trend.is_clear else None
    return replace(row, curve=tuple(value for _, value in points), per_second=clear)


def _resource_table(rows: Sequence[Row], width: int) -> Table:
    return _course_table(rows, width, ("Resource", "available", "of", "in use", "runs out in"), _left)


def _run_table(rows: Sequence[Row], width: int) -> Table:
    return _course_table(rows, width, ("Own runs", "hold", "", "held", "change"), _changed)


def _course_table(
    rows: Sequence[Row],
    width: int,
    titles: tuple[str, str, str, str, str],
    last: Callable[[Row], Text],
) -> Table:
    """Return a table of what is watched: its name, now, the whole of it, its curve, and where it is heading.

    Args:
        rows: what is watched.
        width: of the terminal.
        titles: of the columns; nothing is shown in one without, but for its room.
        last: what is in the last column.
    """
    (name, curve), (first, now, whole, drawn, end) = _columns(width), titles
    table = _table(name, first, now, whole)
    if curve:
        table.add_column(drawn, width=curve, no_wrap=True, overflow="crop")
    table.add_column(end, width=_LEFT, justify="right", no_wrap=True)
    for row in rows:
        course = [Text(_curve(row, curve), style="cyan")] if curve else []
        all_of_it = size(row.whole) if whole else ""
        table.add_row(Text(row.label), size(row.now), all_of_it, *course, last(row))
    return table


def _left(row: Row) -> Text:
    if row.seconds is None:
        return Text(NOTHING)
    return Text(format_duration(row.seconds), style="red" if row.seconds < _SOON else "")


def _changed(row: Row) -> Text:
    return Text(_change(row) or NOTHING)


def _verdict_table(verdicts: Sequence[ResourceVerdict], width: int) -> Table:
    name, _ = _columns(width)
    table = _table(name, "The run waited for", "available", "predicted")
    table.add_column("verdict", no_wrap=True)
    for each in verdicts:
        verdict = Text(each.verdict, style=_STYLES.get(each.verdict, "green"))
        table.add_row(Text(each.name), size(each.available_bytes), size(each.predicted_bytes), verdict)
    return table


def _holder_table(look: Look, width: int, *, most: int) -> Table:
    name, _ = _columns(width)
    table = _table(name, "Held by", "RSS", "processes")
    room = max(1, width - name - 2 * _FIGURE - 3 * _GAP)
    table.add_column("largest", width=room, no_wrap=True, overflow="ellipsis")
    for user in look.holders.users[:most]:
        largest = next((each for each in look.holders.largest if each.user == user.user), None)
        about = "" if largest is None else f"{format_bytes(largest.rss_bytes or 0)} {program_of(largest)}"
        table.add_row(Text(user.user), format_bytes(user.rss_bytes), f"{user.processes:,}", Text(about))
    return table


def _table(name: int, title: str, *figures: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    table.add_column(title, width=name, no_wrap=True, overflow="ellipsis")
    for each in figures:
        table.add_column(each, width=_FIGURE, justify="right", no_wrap=True)
    return table


def _columns(width: int) -> tuple[int, int]:
    """Return the columns of a name and of a curve; a curve has none where there is no room for it."""
    room = width - 2 * _FIGURE - _LEFT - 4 * _GAP
    name = min(_WIDEST, max(_NARROWEST, room * 2 // 3))
    curve = room - name
    return (name, curve) if curve >= _LEAST_CURVE else (max(_NARROWEST, room), 0)


def _curve(row: Row, columns: int) -> str:
    values = thinned(row.curve, columns)
    whole = row.whole or max(row.curve, default=0.0)
    if not values or max(values) - min(values) < _FLAT * whole:
        return sparkline([0.0] * len(values))
    return sparkline(values)


def _change(row: Row, before: str = "") -> str:
    if row.per_second is None or abs(row.per_second) * 60 < 1:
        return ""
    sign = "+" if row.per_second > 0 else "-"
    return f"{before}{sign}{format_bytes(abs(row.per_second) * 60)}/min"


def _pressure_lines(look: Look) -> Iterator[str]:
    for each in look.pressure[:1]:
        full = "" if each.full is None else f", all of them {format_share(each.full.share_10s)}"
        yield f"tasks waited for memory in {format_share(each.some.share_10s)} of the last 10 s{full}"
    kills = [count for count in look.oom_counts if count.kills]
    for count in kills[:1]:
        yield f"killed for want of memory: {count.kills:,} ({count.source})"
