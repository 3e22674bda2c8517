"""The terminal's view of a step: the five longest rows with bars, drawn over the previous frame."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from rich.cells import cell_len, set_cell_size

from deblurkit.timing.records import UNACCOUNTED, StepTiming
from deblurkit.timing.text_log import pad

BAR_CELLS = 30
NAME_COLUMNS = 28
ROWS = 5
PANEL_COLUMNS = 77


def format_frame(timing: StepTiming) -> list[str]:
    """Return the lines of the frame: title, at most five top-level rows, total."""
    rows = {name: ms for name, ms in timing.milliseconds.items() if "/" not in name}
    if timing.unaccounted_ms > 0:
        rows[UNACCOUNTED] = timing.unaccounted_ms
    longest = sorted(rows.items(), key=lambda row: -row[1])[:ROWS]
    total = timing.total_ms
    title = f"┌─ Timing Profile (Step {timing.step}) "
    foot = f"└─ Total: {total:7.1f}ms "
    lines = [pad(title, PANEL_COLUMNS, "─")]
    for name, milliseconds in longest:
        share = milliseconds / total if total > 0 else 0.0
        filled = int(share * BAR_CELLS)
        bar = "█" * filled + "░" * (BAR_CELLS - filled)
        label = set_cell_size(name, NAME_COLUMNS)
        lines.append(f"│ {label} {bar} {milliseconds:7.1f}ms {100 * share:4.1f}%")
    lines.append(pad(foot, PANEL_COLUMNS, "─"))
    return lines


class InPlaceConsole:
    """Draws frames over one another on a terminal; on anything else it stays quiet."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._drawn = 0

    def show(self, timing: StepTiming) -> None:
        """Draw the frame of ``timing`` in the place of the one before."""
        if not self._stream.isatty():
            return
        columns = self._columns()
        lines = [
            line if cell_len(line) <= columns else set_cell_size(line, columns)
            for line in format_frame(timing)
        ]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._stream.write(up + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[J")
        self._stream.flush()
        self._drawn = len(lines)

    def _columns(self) -> int:
        """Return the terminal's width: a line that wrapped would be one more to go up."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or PANEL_COLUMNS
        except (OSError, ValueError):
            return PANEL_COLUMNS
