"""A table for spreadsheets: a line per step and row, with its time and what of that is its own."""

from __future__ import annotations

import csv
from pathlib import Path

from deblurkit.timing.partition import exclusive
from deblurkit.timing.records import UNACCOUNTED, StepTiming
from deblurkit.timing.step_file import StepFile

COLUMNS = ("step", "name", "milliseconds", "exclusive_milliseconds")


class CsvLog(StepFile):
    """Appends the rows of steps in the long form, so that a new name needs no new column (RFC 4180, UTF-8).

    A row that was not measured in a step has no line there. The exclusive times of a step, ``unaccounted``
    among them, add up to its wall time, save where rows overlap: as several threads' do.
    """

    def __init__(self, path: Path, *, flush_interval: int) -> None:
        super().__init__(path, flush_interval=flush_interval, newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(COLUMNS)
        self._file.flush()

    def write_step(self, timing: StepTiming) -> None:
        """Append the rows of one step."""
        own = exclusive(timing.milliseconds)
        for name, milliseconds in timing.milliseconds.items():
            self._rows.writerow((timing.step, name, f"{milliseconds:.4f}", f"{own[name]:.4f}"))
        left = f"{timing.unaccounted_ms:.4f}"
        self._rows.writerow((timing.step, UNACCOUNTED, left, left))
        self._step_written()

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        self._file.close()
