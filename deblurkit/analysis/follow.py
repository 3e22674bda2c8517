"""A running log from one look to the next: what is new, and when the run is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deblurkit.analysis.growing_log import GrowingLog
from deblurkit.analysis.partition import top_level
from deblurkit.analysis.readers import read_log
from deblurkit.analysis.report import Report, analyze
from deblurkit.analysis.tables import RunLog
from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import UNACCOUNTED

ENDED, INTERRUPTED, IDLE = "the run has ended", "interrupted", "nothing new"
_RECENT_STEPS = 20
_SHOWN_STEPS = 60
_SHOWN_SCALARS = (
    "loss",
    "psnr_db",
    "learning_rate",
    "grad_norm",
    "cuda_reserved_bytes",
    "cuda_allocated_bytes",
    "process_memory_bytes",
    "host_memory_share",
)
_PATIENCE_BYTES = 1 << 20  # a file that has no step in as many bytes will not have one


@dataclass(frozen=True)
class Recent:
    """The newest part of a log.

    Attributes:
        step: number of the newest step.
        step_ms: length of the newest steps, the newest last; rows whose length is not known left out.
        phases_ms: median of the last 20 by top-level row, ``unaccounted`` among them.
        scalars: the newest values of the numbers that matter while a run goes on.
    """

    step: int
    step_ms: tuple[float, ...]
    phases_ms: Mapping[str, float]
    scalars: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Update:
    """What one look at a running log gives.

    Attributes:
        source: the file.
        report: on all that was read so far; None before the first step.
        recent: its newest part; None likewise.
        new_steps: steps since the look before.
        quiet_s: seconds since there was anything new.
        notice: what stands in the way, or is worth knowing about the file; empty mostly.
        end: why this is the last one: `ENDED`, `INTERRUPTED` or `IDLE`; empty while the run goes on.
    """

    source: str
    report: Report | None = None
    recent: Recent | None = None
    new_steps: int = 0
    quiet_s: float = 0.0
    notice: str = ""
    end: str = ""


def follow(
    path: Path,
    *,
    every_s: float = 2.0,
    idle_s: float | None = None,
    warmup_steps: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Generator[Update, None, None]:
    """Yield what a log holds, again and again while it grows; the last one is of the whole file.

    It ends when the file says that the run is over, on Ctrl-C, or after ``idle_s`` without anything new. A
    file that is replaced, cut or gone for a while is waited for and read anew. A run that is followed again
    is read from the beginning of its file: no state is kept.

    Args:
        path: of the log; it must exist, and may be empty yet.
        every_s: seconds from one look to the next; longer if reading and analysing takes as long.
        idle_s: None for ever.
        warmup_steps: as `analyze` takes it.
        clock: seconds that never go back.
        sleep: waits for as many seconds.

    Raises:
        DeblurkitError: if there is no such file, or it is no log.
    """
    if not path.is_file():
        read_log(path)  # says what is wrong
    watch = _Watch(path, warmup_steps, clock)
    try:
        while not (end := watch.look(idle_s)):
            began = clock()
            yield watch.update
            taken = clock() - began + watch.seconds_of_a_look
            sleep(max(every_s - taken, taken))
    except KeyboardInterrupt:
        end = INTERRUPTED
    yield watch.last(end)


def newest(paths: Sequence[Path]) -> Path:
    """Return the file that was written to last: of a run's logs, one that grows."""
    return max(paths, key=lambda path: path.stat().st_mtime_ns)


class _Watch:
    """What is known of a log by now."""

    def __init__(self, path: Path, warmup_steps: int | None, clock: Callable[[], float]) -> None:
        self.update = Update(str(path), notice="no step yet")
        self.seconds_of_a_look = 0.0
        self._path, self._warmup_steps, self._clock = path, warmup_steps, clock
        self._growing = GrowingLog(path)
        self._news_at = clock()

    def look(self, idle_s: float | None) -> str:
        """Look at the file once more; return why there is no need to go on, or nothing."""
        now = self._clock()
        has_news, notice = self._read_on()
        self._news_at = now if has_news else self._news_at
        report, lack = self._report(self._growing.log) if has_news else (None, "")
        notice = notice or lack or (self.update.notice if self.update.report is None and not report else "")
        self.update = replace(self.update, new_steps=0, quiet_s=now - self._news_at, notice=notice)
        if report is not None:
            self._take(report)
        self.seconds_of_a_look = self._clock() - now
        if self._growing.has_ended:
            return ENDED
        return IDLE if idle_s is not None and self.update.quiet_s >= idle_s else ""

    def last(self, end: str) -> Update:
        """Return the last update: on the whole file, read at once."""
        self.update = replace(self.update, new_steps=0, end=end)
        try:
            report, _ = self._report(read_log(self._path))
        except DeblurkitError:  # gone, or without a step: the report before stands
            return self.update
        if report is not None:
            self._take(report)
        return self.update

    def _read_on(self) -> tuple[bool, str]:
        """Return whether there was anything new, and what stood in the way."""
        try:
            has_news = self._growing.read_on()
        except FileNotFoundError:
            return False, "the file is gone; waiting for it"
        except OSError as error:
            return False, f"the file cannot be read: {error.strerror or error}"
        except DeblurkitError as error:
            if self._path.stat().st_size > _PATIENCE_BYTES:
                raise
            return False, f"no step yet: {error}"
        return has_news, "the file was replaced or cut; read anew" if self._growing.began_anew else ""

    def _report(self, log: RunLog | None) -> tuple[Report | None, str]:
        """Return the report on a log, or why there is none yet."""
        try:
            return (analyze(log, warmup_steps=self._warmup_steps) if log is not None else None), ""
        except DeblurkitError as error:
            return None, str(error)

    def _take(self, report: Report) -> None:
        before = self.update.report
        known = before.steps if before is not None and not self._growing.began_anew else 0
        self.update = replace(
            self.update, report=report, recent=recent_of(report), new_steps=max(0, report.steps - known)
        )


def recent_of(report: Report) -> Recent:
    """Return the newest part of what a report is on."""
    log, partition = report.log, report.partition
    newest = top_level(partition.times).iloc[-_RECENT_STEPS:]
    if partition.unaccounted_ms is not None:
        newest = newest.assign(**{UNACCOUNTED: partition.unaccounted_ms.iloc[-_RECENT_STEPS:]})
    phases = newest.median().dropna().sort_values(ascending=False)
    return Recent(
        step=int(log.steps["step"].iloc[-1]) if len(log.steps) else 0,
        step_ms=tuple(partition.step_ms.dropna().iloc[-_SHOWN_STEPS:].tolist()),
        phases_ms={str(name): float(ms) for name, ms in phases.items()},
        scalars={
            name: tuple(log.scalars[name]["value"].iloc[-_SHOWN_STEPS:].tolist())
            for name in _SHOWN_SCALARS
            if name in log.scalars
        },
    )
