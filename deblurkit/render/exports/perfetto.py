"""The steps of logs as a Chrome trace, for Perfetto (ui.perfetto.dev) or chrome://tracing."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deblurkit.analysis.report import Report
from deblurkit.files import replaced_file
from deblurkit.render.exports.timeline import Timeline
from deblurkit.render.trace_events import TraceEvent, counter_event, mark_event, name_event, slice_event
from deblurkit.timing.partition import ROLES, role_of
from deblurkit.timing.records import UNACCOUNTED, children_of
from deblurkit.units import plural

MOST_STEPS = 20_000  # newest steps of each log that are drawn with their rows: Perfetto holds some 10^6 bars
_TRACK = 1
_ORDER = tuple(ROLES)
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_NOTE = (
    "A log tells how long, not when: inside a step its rows stand one after another, in their usual order."
)


def write_perfetto(reports: Sequence[Report], path: Path, *, most_steps: int = MOST_STEPS) -> None:
    """Write the steps of logs as a trace, in one piece: a process for each log, the ranks of a run together.

    Each step is a bar, with its rows nested in it as the partition has them, ``unaccounted`` last. Steps lie
    where the log's wall time puts them, else one after another; a row that is the mean of several steps is
    one bar as long as all of them. Curves are the length of every step and the log's other numbers; events
    are marks. Names stay as they are. Of a longer log only the newest ``most_steps`` are drawn as bars.
    """
    timelines = [Timeline(report) for report in reports]
    zero_s = min(
        (float(timeline.starts_s[0]) for timeline in timelines if len(timeline.starts_s)), default=0.0
    )
    with replaced_file(path) as file:
        file.write(b'{"displayTimeUnit":"ms","otherData":')
        file.write(_encoded({"note": _NOTE, "starts_at_unix_s": zero_s}))
        file.write(b',"traceEvents":[')
        separator = b"\n"
        for report, timeline, process in zip(reports, timelines, _processes(reports), strict=True):
            for event in _Process(report, timeline, process, zero_s, most_steps).events():
                file.write(separator + _encoded(event))
                separator = b",\n"
        file.write(b"\n]}\n")


class _Process:
    """What one log becomes.

    Args:
        report: on the log.
        timeline: of it.
        process: its number.
        zero_s: where the trace begins.
        most_steps: that are drawn.
    """

    def __init__(
        self, report: Report, timeline: Timeline, process: int, zero_s: float, most_steps: int
    ) -> None:
        self._report, self._timeline, self._process, self._zero_s = report, timeline, process, zero_s
        self._first = max(0, len(timeline.starts_s) - most_steps)

    def events(self) -> Iterator[TraceEvent]:
        """Yield its events."""
        name = self._report.source
        if self._report.log.rank is not None:
            name = f"rank {self._report.log.rank}: {name}"
        if self._first:
            name += f" (bars from the last {plural(len(self._timeline.starts_s) - self._first, 'step')})"
        yield name_event("process_name", name, process=self._process, track=_TRACK)
        yield name_event("thread_name", "steps", process=self._process, track=_TRACK)
        yield from self._steps()
        yield from self._curves()
        yield from self._marks()

    def _steps(self) -> Iterator[TraceEvent]:
        partition, steps = self._report.partition, self._report.log.steps
        table = partition.times.iloc[self._first :].rename(columns=str)
        if partition.unaccounted_ms is not None:
            table = table.assign(**{UNACCOUNTED: partition.unaccounted_ms.iloc[self._first :]})
        names = [str(name) for name in table.columns]
        numbers, counts = steps["step"].tolist(), steps["count"].tolist()
        end_ns = 0
        for place, row in enumerate(table.to_numpy().tolist(), start=self._first):
            rows = {name: ms for name, ms in zip(names, row, strict=True) if ms == ms and ms > 0}
            start_ns = max(end_ns, self._since_zero_ns(self._timeline.starts_s[place]))
            end_ns = start_ns + round(1e9 * self._timeline.lengths_s[place])
            yield from self._step(start_ns, end_ns, int(numbers[place]), int(counts[place]), rows)

    def _step(
        self, start_ns: int, end_ns: int, step: int, count: int, rows: Mapping[str, float]
    ) -> Iterator[TraceEvent]:
        name = f"step {step}" if count == 1 else f"steps {step - count + 1} to {step}"
        yield self._bar(name, start_ns, end_ns, "step", step=step, count=count)
        inside = children_of(tuple(rows))
        pending = [*_row_of_bars(sorted(inside.get("", ()), key=_rank), rows, start_ns, end_ns, count)]
        while pending:
            path, begin, end = pending.pop()
            category = "row" if "/" in path else "phase"
            yield self._bar(
                path.rpartition("/")[2], begin, end, category, path=path, step=step, ms=rows[path]
            )
            pending += _row_of_bars(inside.get(path, ()), rows, begin, end, count)

    def _bar(self, name: str, begin_ns: int, end_ns: int, category: str, **facts: object) -> TraceEvent:
        length_us = (end_ns - begin_ns) / 1e3
        process = self._process
        return slice_event(
            name, begin_ns / 1e3, length_us, process=process, track=_TRACK, category=category, **facts
        )

    def _curves(self) -> Iterator[TraceEvent]:
        lengths = zip(self._timeline.ends_s.tolist(), self._report.partition.step_ms.tolist(), strict=True)
        for end_s, length_ms in lengths:
            yield from self._point("step_ms", end_s, length_ms)
        for name, frame in self._report.log.scalars.items():
            for step, unix_s, value in frame[["step", "unix_s", "value"]].itertuples(index=False, name=None):
                yield from self._point(name, self._timeline.moment(step, unix_s), value)

    def _point(self, name: str, moment_s: float | None, value: float) -> Iterator[TraceEvent]:
        if moment_s is not None and math.isfinite(value):
            yield counter_event(name, self._since_zero_ns(moment_s) / 1e3, value, process=self._process)

    def _marks(self) -> Iterator[TraceEvent]:
        for event in self._report.log.events:
            moment_s = self._timeline.moment(event.step, event.unix_s)
            if moment_s is not None:
                moment_us = self._since_zero_ns(moment_s) / 1e3
                yield mark_event(event.kind, moment_us, process=self._process, track=_TRACK, text=event.text)

    def _since_zero_ns(self, moment_s: float) -> int:
        return max(0, round(1e9 * (moment_s - self._zero_s)))


def _row_of_bars(
    names: Sequence[str], rows: Mapping[str, float], begin_ns: int, end_ns: int, count: int
) -> Iterator[tuple[str, int, int]]:
    """Yield (name, begin, end) of bars one after another; if they are too long together, each by as much."""
    wanted_ns = 1e6 * count * sum(rows[name] for name in names)
    shrink = min(1.0, (end_ns - begin_ns) / wanted_ns) if wanted_ns > 0 else 1.0
    ends = itertools.accumulate((1e6 * count * rows[name] * shrink for name in names), initial=0.0)
    for name, (begin, end) in zip(names, itertools.pairwise(ends), strict=True):
        yield name, begin_ns + round(begin), min(end_ns, begin_ns + round(end))


def _rank(name: str) -> int:
    """Return where a phase stands in a step: the standard ones in their order, what is left over last."""
    role = role_of(name)
    if name == UNACCOUNTED:
        return len(_ORDER) + 1
    return _ORDER.index(role) if role is not None else _ORDER.index("forward")


def _processes(reports: Sequence[Report]) -> list[int]:
    """Return the ranks where each log has one of its own, else their places."""
    ranks = [report.log.rank for report in reports]
    known = [rank for rank in ranks if rank is not None]
    return known if len(set(known)) == len(ranks) else list(range(len(ranks)))


def _encoded(value: object) -> bytes:
    return _JSON.encode(value).encode(errors="replace")  # names of files may be no UTF-8
