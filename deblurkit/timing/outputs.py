"""The files of a timing log, opened and closed together; one that cannot be written ends them all, not the run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deblurkit.timing import text_log
from deblurkit.timing.csv_log import CsvLog
from deblurkit.timing.json_lines import JsonLinesLog
from deblurkit.timing.overhead import OwnCost
from deblurkit.timing.records import StepTiming
from deblurkit.timing.statistics import Statistics
from deblurkit.timing.trace import TraceLog


class StepOutput(Protocol):
    """Takes finished steps; what a program adds to the files here (`scalars.Scalars`, say)."""

    def write_step(self, timing: StepTiming) -> None:
        """Take one step."""
        ...

    def close(self) -> None:
        """Write out what is left; may be called twice."""
        ...


@dataclass(frozen=True)
class LogFiles:
    """Which files to write, where, and what their first lines say.

    Attributes:
        folder: made if missing.
        rank: all ranks write JSON lines (and a table and a trace, if asked for), rank 0 also the text log.
        started_at: unix time in their names; now where None.
    """

    folder: Path
    rank: int
    world_size: int
    clock: str
    samples_per_step: int | None
    flush_interval: int
    csv: bool = False
    trace: bool = False
    started_at: float | None = None

    def open(self) -> Outputs:
        """Create the files and return them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        started_at = time.time() if self.started_at is None else self.started_at
        stem = _free_stem(self.folder, int(started_at), self.rank)
        own = f"{stem}.rank{self.rank}"
        about = {
            "rank": self.rank,
            "world_size": self.world_size,
            "clock": self.clock,
            "samples_per_step": self.samples_per_step,
            "started_at": started_at,
        }
        flush = {"flush_interval": self.flush_interval}
        outputs = Outputs()
        outputs.lines = JsonLinesLog(self.folder / f"{own}.jsonl", **about, **flush)  # type: ignore[arg-type]
        if self.rank == 0:
            head = text_log.header(**about)  # type: ignore[arg-type]
            outputs.text = text_log.TextLog(self.folder / f"{stem}.log", head=head, **flush)
        if self.csv:
            outputs.csv = CsvLog(self.folder / f"{own}.csv", **flush)
        if self.trace:
            outputs.trace = TraceLog(self.folder / f"{own}.trace.json", rank=self.rank, clock=self.clock)
        return outputs
