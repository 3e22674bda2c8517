"""Reader of the training logs of KAIR and S-VRT.

``24-01-31 10:00:01.123 : <epoch:  3, iter:   1,200, lr:4.000e-04> G_loss: 3.100e-02``: no time of a step is
printed, the stamps give it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from deblurkit.analysis.formats.angle_lines import gather_angle_lines
from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.tables import RunLog

_LINE = re.compile(rb"<epoch:\s*[\d,]+, ?iter:\s*[\d,]+, ?lr:")


def looks_like_kair(head: bytes) -> bool:
    """Return whether a line of KAIR's form is in the first bytes of a file."""
    return b"<epoch:" in head and _LINE.search(head) is not None


def read_kair(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return the steps, losses and scores of a log of KAIR.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if nothing of the format is in it.
    """
    log = LineLog(source, "kair", expected="<epoch:  3, iter:   1,200, lr:4.000e-04> G_loss: 3.1e-02")
    gather_angle_lines(lines, log)
    return log.finish()


FORMAT = LogFormat("KAIR or S-VRT training log", looks_like_kair, read_kair)
