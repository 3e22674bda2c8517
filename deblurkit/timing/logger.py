"""``TimingLogger``: named times of a training step, from anywhere in a program, into a terminal and files."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from deblurkit.timing import text_log
from deblurkit.timing.clock import Clock, HostClock, Mark
from deblurkit.timing.console import InPlaceConsole
from deblurkit.timing.json_lines import JsonLinesLog
from deblurkit.timing.records import Span, Statistics, StepTiming, clean_name, with_parents


@dataclass
class _OpenStep:
    """A step whose rows are all logged but whose device marks may not be readable yet."""

    number: int
    unix_time: float
    start: Mark
    end: Mark
    milliseconds: dict[str, float]
    spans: list[Span]


class TimingLogger:
    """Collects named times step by step, and writes them to a terminal, a text log and JSON lines.

    Names are free; ``/`` makes a hierarchy (``forward/Stage1`` lies inside ``forward``). Times may come
    from any thread. ``step()`` closes a step; its wall time runs from the ``step()`` before (or
    ``restart()``), and what no row covers is written as ``unaccounted``. Nothing here waits for a device
    inside a step.

    Args:
        log_dir: folder of the files ``timing_{unix time}.log`` and ``….rank{rank}.jsonl``; made if missing.
        enable_console: draw the five longest rows in place, where ``stdout`` is a terminal.
        enable_file: write the two files.
        console_update_interval: steps between frames.
        file_flush_interval: steps that a kill can lose.
        clock: times scopes and steps; the host's by default.
        first_step: number of the first step, 1 unless a run is resumed.
        rank: this process's number among ``world_size``; all write JSON lines, rank 0 also the text log.
        world_size: number of processes that train together.
        samples_per_step: samples that all ranks together take in one step, for the reader to work out a rate.
        show: takes a frame instead of the terminal (for programs with a display of their own).

    Attributes:
        steps_done: steps whose times are known.
        latest: the newest of them.
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
    ) -> None:
        self.clock: Clock = clock if clock is not None else HostClock()
        self.steps_done = 0
        self.latest: StepTiming | None = None
        self._next_step = first_step
        self._lock = threading.Lock()
        self._milliseconds: dict[str, float] = {}
        self._spans: list[Span] = []
        self._pending: deque[_OpenStep] = deque()
        self._statistics: dict[str, Statistics] = {}
        self._scopes: dict[str, Scope] = {}
        self._names = threading.local()
        self._console_interval = max(1, console_update_interval)
        self._show = (show if show is not None else InPlaceConsole().show) if enable_console else None
        self._text: text_log.TextLog | None = None
        self._lines: JsonLinesLog | None = None
        if enable_file:
            self._open_files(Path(log_dir), rank, world_size, samples_per_step, file_flush_interval)
        self._step_start = self.clock.mark()

    @property
    def path(self) -> Path | None:
        """The text log, or None where this rank or this run writes none."""
        return self._text.path if self._text is not None else None

    def log(self, name: str, milliseconds: float) -> None:
        """Add a measured time to the current step; times of one name in one step add up."""
        with self._lock:
            self._milliseconds[name] = self._milliseconds.get(name, 0.0) + milliseconds

    def log_spans(self, spans: Iterable[Span]) -> None:
        """Add intervals between two marks of this logger's clock to the current step."""
        with self._lock:
            self._spans.extend(spans)

    def scope(self, name: str) -> Scope:
        """Return the reusable context manager that times its block as ``name``, inside any open scope."""
        scope = self._scopes.get(name)
        if scope is None:
            scope = self._scopes.setdefault(name, Scope(self, name))
        return scope

    def restart(self) -> None:
        """Begin the current step's wall time now: what came before (set-up, validation) is no part of it."""
        self._step_start = self.clock.mark()

    def step(self) -> None:
        """Close the current step and write every step whose times are known by now."""
        end = self.clock.mark()
        with self._lock:
            milliseconds, self._milliseconds = self._milliseconds, {}
            spans, self._spans = self._spans, []
        self._pending.append(
            _OpenStep(self._next_step, time.time(), self._step_start, end, milliseconds, spans)
        )
        self._step_start = end
        self._next_step += 1
        self._drain()

    def summary(self) -> str:
        """Return the table of mean, least and most milliseconds of every row so far."""
        return text_log.format_summary(self.steps_done, self._statistics)

    def print_summary(self) -> None:
        """Print the table of mean, least and most milliseconds of every row."""
        self._finish()
        print(self.summary(), end="")

    def close(self) -> None:
        """Write what is pending and the summary, and close the files; closing twice does no harm."""
        self._finish()
        with self._no_harm_from_files():
            if self._text is not None:
                self._text.close(self.summary())
            if self._lines is not None:
                self._lines.close()

    def _open_files(
        self, folder: Path, rank: int, world_size: int, samples_per_step: int | None, flush_interval: int
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        started_at = time.time()
        stem = folder / _free_stem(folder, int(started_at))
        clock = self.clock.name
        self._lines = JsonLinesLog(
            stem.with_name(f"{stem.name}.rank{rank}.jsonl"),
            rank=rank,
            world_size=world_size,
            clock=clock,
            samples_per_step=samples_per_step,
            started_at=started_at,
            flush_interval=flush_interval,
        )
        if rank == 0:
            head = text_log.header(
                rank=rank,
                world_size=world_size,
                clock=clock,
                samples_per_step=samples_per_step,
                started_at=started_at,
            )
            self._text = text_log.TextLog(
                stem.with_name(f"{stem.name}.log"), head=head, flush_interval=flush_interval
            )

    @contextlib.contextmanager
    def _no_harm_from_files(self) -> Iterator[None]:
        """Go on without the files where they cannot be written (a full disk): a log must not end a run."""
        try:
            yield
        except OSError as error:
            for log in (self._text, self._lines):
                if log is not None:
                    log.abandon()
            self._text = self._lines = None
            warnings.warn(f"the timing log ends here: {error.strerror}", RuntimeWarning, stacklevel=2)

    def _finish(self) -> None:
        if self._pending:
            self.clock.wait()
            self._drain()

    def _drain(self) -> None:
        """Write pending steps in order, as far as the clock can tell their times."""
        while self._pending:
            timing = self._resolve(self._pending[0])
            if timing is None:
                return
            step = self._pending.popleft()
            marks = [step.start, *(mark for span in step.spans for mark in (span.start, span.end))]
            used_next = id(step.end)  # where the next step begins
            self.clock.release({id(mark): mark for mark in marks if id(mark) != used_next}.values())
            self._write(timing)

    def _resolve(self, step: _OpenStep) -> StepTiming | None:
        wall = self.clock.elapsed(step.start, step.end)
        if wall is None:
            return None
        rows = {clean_name(name): ms for name, ms in step.milliseconds.items()}
        for span in step.spans:
            seconds = self.clock.elapsed(span.start, span.end)
            if seconds is None:
                return None
            name = clean_name(span.name)
            rows[name] = rows.get(name, 0.0) + span.weight * seconds * 1000
        return StepTiming(step.number, step.unix_time, wall * 1000, with_parents(rows))

    def _write(self, timing: StepTiming) -> None:
        self.steps_done += 1
        self.latest = timing
        for name, milliseconds in timing.milliseconds.items():
            self._statistics.setdefault(name, Statistics()).add(milliseconds)
        with self._no_harm_from_files():
            if self._text is not None:
                averages = {name: row.mean for name, row in self._statistics.items()}
                self._text.write_step(timing, averages)
            if self._lines is not None:
                self._lines.write_step(timing)
        if self._show is not None and timing.step % self._console_interval == 0:
            self._show(timing)


class Scope:
    """Times its block into a logger; one object serves every use of its name, in any thread, also nested."""

    __slots__ = ("_logger", "_name")

    def __init__(self, logger: TimingLogger, name: str) -> None:
        self._logger = logger
        self._name = name

    def __enter__(self) -> None:
        """Begin the interval, inside whatever scope this thread has open."""
        stack = _open_scopes(self._logger)
        path = f"{stack[-1][0]}/{self._name}" if stack else self._name
        stack.append((path, self._logger.clock.mark()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the interval, also where the block raised."""
        path, start = _open_scopes(self._logger).pop()
        self._logger.log_spans((Span(path, start, self._logger.clock.mark()),))


def _open_scopes(logger: TimingLogger) -> list[tuple[str, Mark]]:
    names = logger._names
    try:
        return names.stack
    except AttributeError:
        names.stack = []
        return names.stack


def _free_stem(folder: Path, seconds: int) -> str:
    """Return ``timing_{seconds}``, counted up past the files of a run that began in the same second."""
    while any(folder.glob(f"timing_{seconds}.*")):
        seconds += 1
    return f"timing_{seconds}"


_global_logger: TimingLogger | None = None


def set_global_timing_logger(logger: TimingLogger | None) -> None:
    """Send the process's ``log_timing`` calls to ``logger``; None turns them off."""
    global _global_logger
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
