"""Reader of the training logs of mmengine, and of mmcv before it.

``2023/05/19 13:42:07 - mmengine - INFO - Epoch(train) [1][10/25]  lr: 1.0000e-03  eta: 0:00:05  time: 0.0410
data_time: 0.0068  memory: 402  loss: 1.9368`` on one line, or ``Iter(train) [  50/80000]``; mmcv leaves
``(train)`` out and parts the numbers by commas. Times are means of the last few iterations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.formats.scalar_names import number
from deblurkit.analysis.tables import RunLog
from deblurkit.units import MIB

_WHICH = rb"(\((?:train|val|test)\))?"
_PLACE = (
    rb"\b(?:Epoch" + _WHICH + rb" {1,3}\[(\d{1,9})\]|Iter" + _WHICH + rb" {1,3})\[ *(\d{1,12})/ *(\d{1,12})\]"
)
_LINE = re.compile(_PLACE + rb".{0,120}?\b(?:time|eta): ")
_STEP = re.compile(_PLACE + rb"\s")
_TIME = re.compile(rb"(?<!data_)time: ([\d.]{1,15})")
_DATA = re.compile(rb"\bdata_time: ([\d.]{1,15})")
_TRAIN = (None, b"(train)")


def looks_like_mmengine(head: bytes) -> bool:
    """Return whether a line of mmengine's or mmcv's form is in the first bytes of a file."""
    return b"time: " in head and _LINE.search(head) is not None


def read_mmengine(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return the steps, losses and scores of a log of mmengine or mmcv.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if nothing of the format is in it.
    """
    log = LineLog(source, "mmengine", expected="Epoch(train) [1][10/25]  lr: 1.0000e-03  time: 0.0410")
    log.names.know(b"memory", "cuda_peak_allocated_bytes", factor=MIB)
    for line in lines:
        at = max(line.find(b"Epoch"), line.find(b"Iter"))
        match = _STEP.match(line, at) if at >= 0 else None
        if match is None:
            _take_other(log, line)
        elif (match[1] or match[3]) in _TRAIN:
            _take_step(log, line, match)
        else:
            log.other(line)
    return log.finish()


def _take_step(log: LineLog, line: bytes, match: re.Match[bytes]) -> None:
    epoch, done, of = match[2], int(match[4]), int(match[5])
    rest = line[match.end() :]
    seconds, data_s = _TIME.search(rest), _DATA.search(rest)
    if seconds is None:
        log.damaged()
        return
    log.step(
        done + (int(epoch) - 1) * of if epoch else done,
        line=line,
        unix_s=log.stamps.find_before(line, match.start()),
        epoch=int(epoch) if epoch else math.nan,
        seconds=number(seconds[1]),
        data_s=number(data_s[1]) if data_s is not None else math.nan,
        numbers=log.names.numbers(rest),
    )


def _take_other(log: LineLog, line: bytes) -> None:
    if b"Epoch(train)" in line or b"Iter(train)" in line:
        log.damaged()
    else:
        log.other(line)


FORMAT = LogFormat("mmengine or mmcv training log", looks_like_mmengine, read_mmengine)
