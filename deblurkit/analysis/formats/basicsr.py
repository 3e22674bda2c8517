"""Reader of the training logs of BasicSR and NAFNet.

``2024-01-31 10:00:01,123 INFO: [name..][epoch:  0, iter:     200, lr:(2.000e-04,)] [eta: 1 day, 2:03:04, time
(data): 0.512 (0.003)] l_pix: 1.2345e-02`` on one line. BasicSR prints a running average of the time, NAFNet
that of the last iteration only, so the stamps say how long a step is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.formats.scalar_names import count, number
from deblurkit.analysis.tables import RunLog

_MARK = b"[epoch:"
_FRONT = 80  # bytes that stamp, level and name take at most
_STEP = re.compile(
    rb"\[epoch:\s*([\d,]{1,12}), ?iter:\s*([\d,]{1,19}), ?lr:\(([^)]{1,99})\)\]"
    rb"(?: ?\[eta: [^\]]{1,40}?time \(data\): ([\d.]{1,12}) \(([\d.]{1,12})\) ?\])?"
)
_KNOWN = re.compile(rb"\[epoch:\s*[\d,]+, ?iter:\s*[\d,]+, ?lr:\(")


def looks_like_basicsr(head: bytes) -> bool:
    """Return whether a line of BasicSR's form is in the first bytes of a file."""
    return _MARK in head and _KNOWN.search(head) is not None


def read_basicsr(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return the steps, losses and scores of a log of BasicSR or NAFNet.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if nothing of the format is in it.
    """
    log = LineLog(source, "basicsr", expected="[epoch:  0, iter:     200, lr:(2.000e-04,)] l_pix: 1.2e-02")
    for line in lines:
        at = line.rfind(_MARK)
        if at < 0:
            log.other(line)
        elif (match := _STEP.match(line, at)) is None:
            log.damaged()
        else:
            if at > _FRONT and line.find(_MARK) < at:
                log.damaged()  # half a line, and this one behind it
            _take_step(log, line, match)
    return log.finish()


def _take_step(log: LineLog, line: bytes, match: re.Match[bytes]) -> None:
    epoch, step, rates, seconds, data_s = match.groups()
    log.step(
        count(step),
        line=line,
        unix_s=log.stamps.find_before(line, match.start()),
        epoch=count(epoch),
        seconds=number(seconds),
        data_s=number(data_s),
        learning_rate=number(rates.partition(b",")[0]),
        numbers=log.names.numbers(line[match.end() :]),
    )


FORMAT = LogFormat("BasicSR or NAFNet training log", looks_like_basicsr, read_basicsr)
