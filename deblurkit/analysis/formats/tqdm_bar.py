"""Reader of logs that hold tqdm's progress bars and nothing more telling."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.formats.progress_bars import BarSteps, bars_in, training_bar
from deblurkit.analysis.tables import RunLog

_LOOKED_AT = 20_000  # lines, to tell the training's bar from others


def looks_like_tqdm(head: bytes) -> bool:
    """Return whether a progress bar is in the first bytes of a file."""
    return b"<" in head and next(bars_in(head), None) is not None


def read_tqdm(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return the steps that a progress bar counted, with the numbers behind it.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if no bar is in it.
    """
    log = LineLog(source, "tqdm", expected="50/1000 [01:23<26:12,  1.65s/it]")
    later = iter(lines)
    first = list(itertools.islice(later, _LOOKED_AT))
    steps = BarSteps(log, training_bar(first))
    for line in itertools.chain(first, later):
        end = 0
        if b"<" in line and b"[" in line:
            for bar in bars_in(line):
                steps.take(bar, line)
                end = bar.end
        log.other(line[end:] if end else line)
    return log.finish()


FORMAT = LogFormat("progress bars of tqdm", looks_like_tqdm, read_tqdm)
