"""A table for spreadsheets: a line per step and row, with its time and what of that is its own."""

from __future__ import annotations

import contextlib
import csv
from pathlib import Path

from deblurkit.timing.partition import exclusive
from deblurkit.timing.records import UNACCOUNTED, StepTiming

COLUMNS = ("step", "name", "milliseconds", "exclusive_milliseconds")


class CsvLog:
    """Appends the rows of steps in the long form, so that a new name needs no new column (RFC 4180, UTF-8).

    A row that was not measured in a step has no line there. The exclusive times of a step, ``unaccounted``
    among them, add up to its wall time.
    """

    def __init__(self, path: Path, *, flush_interval: int) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(COLUMNS)
        self._file.flush()
        self._flush_interval = max(1, flush_interval)
        self._unflushed = 0

    def write_step(self, timing: StepTiming) -> None:
        """Append the rows of one step."""
        own = exclusive(timing.milliseconds)
        for name, milliseconds in timing.milliseconds.items():
            self._rows.writerow((timing.step, name, f"{milliseconds:.4f}", f"{own[name]:.4f}"))
        left = f"{timing.unaccounted_ms:.4f}"
        self._rows.writerow((timing.step, UNACCOUNTED, left, left))
        self._unflushed += 1
        if self._unflushed >= self._flush_interval:
            self._file.flush()
            self._unflushed = 0

    def abandon(self) -> None:
        """Close the file as it is, also where what is buffered cannot be written any more."""
        with contextlib.suppress(OSError):
            self._file.close()

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        self._file.close()
