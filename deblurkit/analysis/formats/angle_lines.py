"""The line that KAIR and its descendants print.

``<epoch:  3, iter:   1,200, lr:4.000e-04> G_loss: 3.100e-02``, behind a stamp.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.analysis.formats.scalar_names import count, number

_MARK = b"<epoch:"
_FRONT = 60  # bytes that stamp and level take at most
_STEP = re.compile(rb"<epoch:\s*([\d,]{1,12}), ?iter:\s*([\d,]{1,19}?), ?lr:\(?([^>)]{1,60})\)?> ?")
_NO_RATE = re.compile(rb"<epoch:\s*[\d,]{1,12}, ?iter:\s*[\d,]{1,19}\b(?!,? ?lr:)")


def gather_angle_lines(lines: Iterable[bytes], log: LineLog) -> None:
    """Give ``log`` the steps of these lines, and everything that is told between them."""
    for line in lines:
        at = line.rfind(_MARK)
        if at < 0:
            log.other(line)
        elif (match := _STEP.match(line, at)) is None:
            _take_odd_line(log, line, at)
        else:
            if at > _FRONT and line.find(_MARK) < at:
                log.damaged()  # half a line, and this one behind it
            epoch, step, rates = match.groups()
            log.step(
                count(step),
                line=line,
                unix_s=log.stamps.find_before(line, at),
                epoch=count(epoch),
                learning_rate=number(rates.partition(b",")[0]),
                numbers=log.names.numbers(line[match.end() :]),
            )


def _take_odd_line(log: LineLog, line: bytes, at: int) -> None:
    """Take a line of scores, which names its step in the same way, or a damaged one."""
    if _NO_RATE.match(line, at) is not None and b"psnr" in line.lower():
        log.other(line)
    else:
        log.damaged()
