"""A file that steps are appended to, and of which a kill loses no more than was agreed."""

from __future__ import annotations

import contextlib
from pathlib import Path


class StepFile:
    """A UTF-8 file that is flushed every ``flush_interval`` steps.

    Args:
        path: overwritten.
        flush_interval: steps that a kill can lose.
        newline: as `open` takes it.
    """

    def __init__(self, path: Path, *, flush_interval: int, newline: str | None = None) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8", newline=newline)
        self._flush_interval = max(1, flush_interval)
        self._unflushed = 0

    def abandon(self) -> None:
        """Close the file as it is, also where what is buffered cannot be written any more."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _step_written(self) -> None:
        """Count a step, and bring those so far to the disk where it is their turn."""
        self._unflushed += 1
        if self._unflushed >= self._flush_interval:
            self._file.flush()
            self._unflushed = 0
