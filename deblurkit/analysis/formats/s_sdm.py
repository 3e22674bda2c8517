"""Reader of the training logs of S-SDM.

``2024-01-31 10:00:01,123 - INFO - EPOCH 3/1001: Train Loss: 0.0111``: a line an epoch, nothing of its steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.tables import RunLog

_MARK = b"EPOCH "
_EPOCH = re.compile(rb"\bEPOCH (\d{1,9})/\d{1,9}: ?")
_TRAIN = re.compile(rb"\bEPOCH \d+/\d+: ?(?:Train )?Loss:", re.IGNORECASE)


def looks_like_s_sdm(head: bytes) -> bool:
    """Return whether a line of S-SDM's form is in the first bytes of a file."""
    return _MARK in head and _TRAIN.search(head) is not None


def read_s_sdm(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return the losses, scores and epochs of a log of S-SDM; ``step`` of the losses is the epoch.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if nothing of the format is in it.
    """
    log = LineLog(source, "s-sdm", expected="EPOCH 3/1001: Train Loss: 0.0111")
    log.notes.append("It prints one line an epoch: the length of a step is not known, losses are by epoch.")
    ended_s = math.nan
    for line in lines:
        match = _EPOCH.search(line) if _MARK in line else None
        if match is None:
            log.other(line)
            continue
        numbers = log.names.numbers(line[match.end() :])
        for name, value in zip(*numbers, strict=True):
            log.scalar(name, value, line=line, step=int(match[1]))
        if "loss" in numbers[0]:
            stamp_s = log.stamps.find_before(line, match.start())
            log.events.end_interval(None)
            log.event("epoch", line, seconds=stamp_s - ended_s if stamp_s >= ended_s else None)
            ended_s = stamp_s
        elif not numbers[0]:
            log.damaged()
    return log.finish()


FORMAT = LogFormat("S-SDM training log", looks_like_s_sdm, read_s_sdm)
