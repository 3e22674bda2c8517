"""``TimingLogger``: named times of a training step, from anywhere in a program, into a terminal and files."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from deblurkit.timing import text_log
from deblurkit.timing.clock import Clock, HostClock, Mark
from deblurkit.timing.collector import Collected, Collector
from deblurkit.timing.console import InPlaceConsole
from deblurkit.timing.outputs import LogFiles, Outputs, StepOutput
from deblurkit.timing.overhead import Overhead, OwnCost, scope_cost_us
from deblurkit.timing.partition import logged_beside_parent
from deblurkit.timing.records import Beside, Note, Span, StepTiming, row_name, with_parents
from deblurkit.timing.scopes import Scope
from deblurkit.timing.statistics import Statistics
from deblurkit.timing.summary_table import format_table
from deblurkit.timing.trace import TraceSpan

MOST_PENDING = 64  # steps that a device may be behind before their marks are given up
MOST_AT_ONCE = 10  # steps that are added up and written together: ten times apart, each finds caches cold
TRACE_WARM_UP = 5


@dataclass(slots=True)
class _OpenStep:
    """A step whose rows are all logged but whose device marks may not be readable yet."""

    number: int
    start: Mark
    end: Mark
    host_start_ns: int
    host_end_ns: int
    collected: Collected

    @property
    def host_ms(self) -> float:
        """Wall time of the host."""
        return (self.host_end_ns - self.host_start_ns) * 1e-6

    @property
    def unix_time(self) -> float:
        """Wall-clock time at its end, by what has passed since then."""
        return time.time() - (time.perf_counter_ns() - self.host_end_ns) * 1e-9


class TimingLogger:
    """Collects named times step by step, and writes them to a terminal, a text log and JSON lines.

    Names are free; ``/`` makes a hierarchy (``forward/Stage1`` lies inside ``forward``). Times may come
    from any thread. ``step()`` closes a step; its wall time runs from the ``step()`` before (or
    ``restart()``), and what no row covers is written as ``unaccounted``. Nothing here waits for a device
    inside a step: its times are read on later steps. Where it is more than 64 steps behind, or a mark cannot
    be read, a step is reported on the host's clock instead, with its wall time and the times that were
    measured elsewhere; rows of the device are then missing, which is not zero.

    Args:
        log_dir: folder of the files ``timing_{unix time}.log`` and ``….rank{rank}.jsonl``; made if missing.
        enable_console: draw the five longest rows in place, where ``stdout`` is a terminal.
        enable_file: write the files.
        console_update_interval: steps between frames.
        file_flush_interval: steps that a kill can lose, and up to 9 more: some are written together.
        clock: times scopes and steps; the host's by default.
        first_step: number of the first step, 1 unless a run is resumed.
        rank: this process's number among ``world_size``; all write JSON lines, rank 0 also the text log.
        world_size: number of processes that train together.
        samples_per_step: samples that all ranks together take in one step, for the reader to work out a rate.
        show: takes a frame instead of the terminal (for programs with a display of their own).
        csv: write ``….rank{rank}.csv`` too.
        trace_steps: steps, after the first 5, that are written to ``….rank{rank}.trace.json``.
        budget_percent: what timing itself may cost of the steps' wall time; None for no budget.
        on_over_budget: called within ``step()`` with the percentage, whenever the budget is passed anew.
        outputs: further takers of finished steps, such as `scalars.Scalars`.
        warn: takes a sentence that the user should not miss; ``warnings.warn`` by default.
        started_at: unix time in the files' names, for ranks to agree on; now by default.

    Figures of the run (``latest``, ``steps_done``, ``statistics``) are for the thread that calls ``step()``.
    """

    def __init__(
        self,
        log_dir: Path | str,
        enable_console: bool = True,
        enable_file: bool = True,
        console_update_interval: int = 10,
        file_flush_interval: int = 50,
        *,
        clock: Clock | None = None,
        first_step: int = 1,
        rank: int = 0,
        world_size: int = 1,
        samples_per_step: int | None = None,
        show: Callable[[StepTiming], None] | None = None,
        csv: bool = False,
        trace_steps: int = 0,
        budget_percent: float | None = None,
        on_over_budget: Callable[[float], None] | None = None,
        outputs: Iterable[StepOutput] = (),
        warn: Callable[[str], None] | None = None,
        started_at: float | None = None,
    ) -> None:
        self.clock: Clock = clock if clock is not None else HostClock()
        self._latest: StepTiming | None = None
        self._next_step = self._look_at = first_step
        self._pending: deque[_OpenStep] = deque()
        self._scopes: dict[str, Scope] = {}
        self._console_interval = max(1, console_update_interval)
        self._at_once = max(1, min(file_flush_interval, MOST_AT_ONCE))
        self._show = (show if show is not None else InPlaceConsole().show) if enable_console else None
        self._warn = warn if warn is not None else _warn
        self._outputs = Outputs()
        if enable_file:
            self._outputs = LogFiles(
                folder=Path(log_dir),
                rank=rank,
                world_size=world_size,
                clock=self.clock.name,
                samples_per_step=samples_per_step,
                flush_interval=file_flush_interval,
                csv=csv,
                trace=trace_steps > 0,
                started_at=started_at,
            ).open()
        self._outputs.others += outputs
        self._outputs.warn = self._warn
        self._run = _RunFigures()
        self._tracer = _Tracer(self.clock, self._outputs, steps=trace_steps)
        self._collector = Collector(self.clock)
        self._overhead = Overhead(budget_percent=budget_percent, on_over_budget=on_over_budget)
        self._cost_us = scope_cost_us(self.clock)
        self._is_host = isinstance(self.clock, HostClock)
        self._step_start, self._host_start_ns = self.clock.mark(), time.perf_counter_ns()
        self._plan_look()

    @property
    def path(self) -> Path | None:
        """The text log, or None where this rank or this run writes none."""
        return self._outputs.text.path if self._outputs.text is not None else None

    @property
    def steps_done(self) -> int:
        """Number of steps whose times are known."""
        self._drain()
        return self._run.wall.count

    @property
    def latest(self) -> StepTiming | None:
        """The newest step whose times are known."""
        self._drain()
        return self._latest

    @property
    def statistics(self) -> Mapping[str, Statistics]:
        """The figures of every row over the steps done."""
        self._drain()
        return self._run.rows

    @property
    def over_budget(self) -> bool:
        """Whether timing itself has passed its budget at some time of the run."""
        return self._overhead.is_over

    @property
    def own_cost(self) -> OwnCost:
        """What timing itself has cost so far."""
        self._drain()
        cost = self._overhead.report()
        return replace(cost, marks_dropped=cost.marks_dropped + self._collector.recorder.lost)

    def log(self, name: str, milliseconds: float) -> None:
        """Add a measured time to the current step; times of one name in one step add up."""
        self._collector.log(name, milliseconds)

    def log_spans(self, spans: Iterable[Span]) -> None:
        """Add intervals between two marks of this logger's clock to the current step."""
        self._collector.log_spans(spans)

    def scope(self, name: str) -> Scope:
        """Return the reusable context manager that times its block as ``name``, inside any open scope."""
        scope = self._scopes.get(name)
        if scope is None:
            scope = self._scopes.setdefault(name, Scope(self._collector.recorder, name))
        return scope

    def add_overhead(self, microseconds: float) -> None:
        """Count what taking marks elsewhere has cost in the current step (`overhead.hook_mark_cost_us`)."""
        self._overhead.add(microseconds)

    def beside(self, name: str, seconds: float, *, count: int = 1) -> None:
        """Write down time that is in no step: a validation, or what other processes have done meanwhile."""
        self._drain()
        self._outputs.write_beside(Beside(row_name(name), seconds, count, after_step=self._next_step - 1))

    def note(self, kind: str, content: Mapping[str, object], *, line: str = "") -> None:
        """Write down what is no time between two steps: an object for programs, and a line for people."""
        self._drain()
        self._outputs.write_note(Note(kind, content, line, self._next_step - 1, time.time()))

    def restart(self) -> None:
        """Begin the current step now: what came before (set-up, validation) is no part of it."""
        before = self._collector.take()
        last = self._pending[-1].end if self._pending else None
        self._collector.release(before.intervals, self._step_start, keep=last)
        self._step_start, self._host_start_ns = self.clock.mark(), time.perf_counter_ns()

    def step(self) -> None:
        """Close the current step; those whose times are known by now are written, some at once."""
        now_ns = time.perf_counter_ns()
        end = now_ns if self._is_host else self.clock.mark()
        number = self._next_step
        self._pending.append(
            _OpenStep(number, self._step_start, end, self._host_start_ns, now_ns, self._collector.take())
        )
        self._step_start, self._host_start_ns = end, now_ns
        self._next_step = number + 1
        if number >= self._look_at:
            self._drain()
            while len(self._pending) > MOST_PENDING:
                self._give_up_oldest()
        self._overhead.add((time.perf_counter_ns() - now_ns) / 1000)

    def summary(self) -> str:
        """Return the table of every row so far: count, mean, own time, share, quantiles, least and most."""
        rows, run = self.statistics, self._run
        return format_table(rows, step=run.wall, unaccounted=run.unaccounted, cost=self.own_cost)

    def print_summary(self) -> None:
        """Print the table of every row, once the device has done what is asked of it."""
        self._finish()
        print(self.summary(), end="")

    def close(self) -> None:
        """Write what is pending and the summary, and close the files; closing twice does no harm."""
        self._finish()
        cost = self.own_cost
        remarks = "".join(f"# {text}\n" for text in (cost.as_line(), *self._run.warnings))
        summary = text_log.format_summary(self.steps_done, self._run.rows) + remarks
        self._outputs.close(summary=summary, cost=cost)

    def _finish(self) -> None:
        """Read everything, waiting for the device; what a broken device cannot tell is given up."""
        with contextlib.suppress(RuntimeError):
            if self._pending:
                self.clock.wait()
                self._drain()
        while self._pending:
            self._give_up_oldest()

    def _drain(self) -> None:
        """Write pending steps in order, as far as the clock can tell their times."""
        self._plan_look()
        while self._pending:
            step = self._pending[0]
            timing = self._resolve(step)
            if timing is None:
                return
            self._tracer.take(step, timing)
            self._end(step, timing)

    def _plan_look(self) -> None:
        """Look at pending steps again after some more of them, and where one is to be shown."""
        number, interval = self._next_step, self._console_interval
        to_show = number + -number % interval
        self._look_at = min(number + self._at_once - 1, to_show)

    def _resolve(self, step: _OpenStep) -> StepTiming | None:
        elapsed = self.clock.elapsed
        wall = elapsed(step.start, step.end)
        if wall is None:
            return None
        collected = step.collected
        if collected.dropped:
            return self._on_host_clock(step)
        rows = collected.scopes_summed
        known = rows.get
        for name, start, end, weight, _ in collected.intervals:
            seconds = (end - start) * 1e-9 if self._is_host else elapsed(start, end)
            if seconds is None:
                return None
            rows[name] = known(name, 0.0) + weight * 1000 * seconds
        logged = collected.milliseconds
        if sum(rows.values()) > 1000 * wall:
            self._cut_at_start(rows, step)
        if logged or min(rows.values(), default=0.0) < 0:
            _add_rows(rows, logged)
            rows = _possible(rows)
        return StepTiming(step.number, step.unix_time, wall * 1000, with_parents(rows))

    def _cut_at_start(self, rows: dict[str, float], step: _OpenStep) -> None:
        """Take off what scopes that were open across ``step()`` had taken before this step began."""
        for name, start, _, weight, _ in step.collected.intervals:
            before = self.clock.elapsed(start, step.start)
            if before is not None and before > 0:
                rows[name] -= weight * 1000 * before

    def _on_host_clock(self, step: _OpenStep) -> StepTiming:
        """Return what is known of a step without the clock: no row of its, and never some of them."""
        self._overhead.steps_on_host_clock += 1
        self._overhead.marks_dropped += step.collected.dropped + 2 * len(step.collected.intervals)
        rows: dict[str, float] = {}
        _add_rows(rows, step.collected.milliseconds)
        of_device = {
            interval[0] for interval in step.collected.intervals
        } | step.collected.scopes_summed.keys()
        known = {name: ms for name, ms in with_parents(_possible(rows)).items() if name not in of_device}
        return StepTiming(step.number, step.unix_time, step.host_ms, known, HostClock.name)

    def _give_up_oldest(self) -> None:
        step = self._pending[0]
        self._end(step, self._on_host_clock(step))

    def _end(self, step: _OpenStep, timing: StepTiming) -> None:
        self._pending.popleft()
        self._collector.release(step.collected.intervals, step.start, keep=step.end)  # the next one's start
        self._latest = timing
        self._overhead.add_step(step.collected.count * self._cost_us, step.host_ms * 1000)
        warning = self._run.add(timing, elsewhere=step.collected.elsewhere)
        if warning is not None:
            self._warn(warning)
        self._outputs.write_step(timing, self._run.rows)
        if self._show is not None and timing.step % self._console_interval == 0:
            self._show(timing)


class _RunFigures:
    """Statistics of every row over the run, and the check that no part was logged beside its whole.

    Attributes:
        rows: by full name.
        wall, unaccounted: of the steps.
        warnings: what was warned of.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Statistics] = {}
        self.wall, self.unaccounted = Statistics(), Statistics()
        self.warnings: list[str] = []
        self._elsewhere: set[str] = set()

    def add(self, timing: StepTiming, *, elsewhere: set[str]) -> str | None:
        """Take a step in, and return a sentence where rows turn out to lie inside others; once a run."""
        if elsewhere:
            self._elsewhere |= elsewhere
        self.wall.add(timing.wall_ms)
        self.unaccounted.add(timing.unaccounted_ms)
        rows = self.rows
        for name, milliseconds in timing.milliseconds.items():
            try:
                rows[name].add(milliseconds)
            except KeyError:
                rows[name] = Statistics()
                rows[name].add(milliseconds)
        count = self.wall.count
        is_due = count >= 4 and count & (count - 1) == 0  # 4, 8, 16 … steps: their sums tell enough
        return self._check() if is_due and not self.warnings else None

    def _check(self) -> str | None:
        top = {name: row.total for name, row in self.rows.items() if "/" not in name}
        own = {name: total for name, total in top.items() if name not in self._elsewhere}
        found = logged_beside_parent(own, self.wall.total)
        if not found:
            return None
        pairs = "; ".join(f"{', '.join(children)} inside {parent}" for parent, children in found)
        self.warnings.append(
            f"rows take longer than the step, as parts are logged beside their whole ({pairs}):"
            f" name them {found[0][0]}/{found[0][1][0]} for shares that add up"
        )
        return self.warnings[-1]


class _Tracer:
    """Writes the spans of the first steps after the warm-up, on one time line."""

    def __init__(self, clock: Clock, outputs: Outputs, *, steps: int) -> None:
        self._clock, self._outputs = clock, outputs
        self._warm_up, self._left = TRACE_WARM_UP, steps
        self._before: _OpenStep | None = None
        self._end_us = 0.0

    def take(self, step: _OpenStep, timing: StepTiming) -> None:
        """Write a step that can be read, if it is one of those."""
        if self._left <= 0 or timing.clock is not None:
            return
        if self._warm_up > 0:
            self._warm_up -= 1
            return
        start_us = self._end_us
        if self._before is not None and self._before.host_end_ns != step.host_start_ns:
            start_us += max(0, step.host_start_ns - self._before.host_end_ns) / 1000  # a validation, say
        self._end_us = start_us + timing.wall_ms * 1000
        spans = self._spans(step, start_us)
        self._outputs.write_trace(step.number, spans, start_us=start_us, end_us=self._end_us)
        self._before = step
        self._left -= 1
        if self._left == 0:
            self._outputs.end_trace()
            self._before = None

    def _spans(self, step: _OpenStep, start_us: float) -> Iterable[TraceSpan]:
        for name, start, end, weight, thread in step.collected.intervals:
            from_step, until = self._clock.elapsed(step.start, start), self._clock.elapsed(step.start, end)
            if weight > 0 and from_step is not None and until is not None:
                yield TraceSpan(thread, name, start_us + from_step * 1e6, start_us + until * 1e6)


def _add_rows(rows: dict[str, float], milliseconds: dict[str, float]) -> None:
    for raw, value in milliseconds.items():
        name = row_name(raw)
        rows[name] = rows.get(name, 0.0) + value


def _possible(rows: dict[str, float]) -> dict[str, float]:
    """Return the rows that are numbers, none below 0: what is taken from a row can be a little too much."""
    return {name: ms if ms > 0 else 0.0 for name, ms in rows.items() if math.isfinite(ms)}


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


_global_logger: TimingLogger | None = None


def set_global_timing_logger(logger: TimingLogger | None) -> None:
    """Send the process's ``log_timing`` calls to ``logger``; None turns them off."""
    global _global_logger
    _forget_in_children()
    _global_logger = logger


def log_timing(name: str, milliseconds: float) -> None:
    """Log a time to the process's logger, if there is one; without one this costs next to nothing."""
    logger = _global_logger
    if logger is not None:
        logger.log(name, milliseconds)


_NO_SCOPE = contextlib.nullcontext()


def scope(name: str) -> contextlib.AbstractContextManager[None]:
    """Return the scope ``name`` of the process's logger, or one that does nothing where there is none."""
    logger = _global_logger
    return logger.scope(name) if logger is not None else _NO_SCOPE


@functools.cache
def _forget_in_children() -> None:
    """See that a forked process (a loader's worker) logs nowhere: nobody would take its times."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: set_global_timing_logger(None))
