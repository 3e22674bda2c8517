"""Reader of the training logs of SpkDeblurNet.

``24-01-31 10:00:01.123 - INFO: <epoch:  0, iter:     100, lr:1.000e-04> l_all: 1.2e-01`` and, after a
validation, ``# Validation # PSNR: 3.1e+01. # SSIM: 9.0e-01.``
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from deblurkit.analysis.formats.angle_lines import gather_angle_lines
from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.tables import RunLog

_LINE = re.compile(rb"\d - INFO: <epoch:\s*[\d,]+, ?iter:")


def looks_like_spkdeblurnet(head: bytes) -> bool:
    """Return whether a line of SpkDeblurNet's form is in the first bytes of a file."""
    return b"- INFO: <epoch:" in head and _LINE.search(head) is not None


def read_spkdeblurnet(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return the steps, losses and scores of a log of SpkDeblurNet.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if nothing of the format is in it.
    """
    log = LineLog(source, "spkdeblurnet", expected="<epoch:  0, iter:     100, lr:1.000e-04> l_all: 1.2e-01")
    gather_angle_lines(lines, log)
    return log.finish()


FORMAT = LogFormat("SpkDeblurNet training log", looks_like_spkdeblurnet, read_spkdeblurnet)
