"""Reader of last resort: lines with a stamp, and the number of a step if they tell one.

Where no number is told, the kind of line that comes most often counts as one step each.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable

from deblurkit.analysis.formats.line_columns import Numbers
from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.analysis.formats.log_events import kind_of
from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.formats.scalar_names import NUMBER, count
from deblurkit.analysis.formats.timestamps import Stamps
from deblurkit.analysis.tables import RunLog

_LOOKED_AT = 5_000  # lines
_FEWEST = 5
_NUMBER = re.compile(
    rb"\b(?:global_?step|steps?|iter(?:ation)?s?|batch|it)\b['\"]?[\s:=#\[(]{1,6}(\d[\d,]{0,14}\d|\d)(?![\d.]*\d|%)",
    re.IGNORECASE,
)
_EPOCH = re.compile(rb"\bepoch\b['\"]?[\s:=#\[(]{1,6}(\d{1,9})\b", re.IGNORECASE)
_LOSS = re.compile(rb"\bloss (" + NUMBER + rb")", re.IGNORECASE)
_CHANGING = re.compile(rb"[-+]?\d[\d.,:eE+-]*|\bnan\b|\binf\b")
_IN_STEPS = (None, "epoch")  # events that a line of a step may seem to tell of
_LONGEST_SHAPE = 160


def looks_like_stamped_lines(head: bytes) -> bool:
    """Return whether lines of one shape with rising stamps come at least five times in the first bytes."""
    return _step_shape(head.split(b"\n")[:_LOOKED_AT]) is not None


def read_stamped_lines(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return steps and their wall time from the stamps of the lines that tell of them.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if no kind of line with a stamp comes again and again.
    """
    log = LineLog(source, "timestamps", expected="2024-01-31 10:00:01 step 100 loss 0.123")
    later = iter(lines)
    first = list(itertools.islice(later, _LOOKED_AT))
    shape = _step_shape(first)
    if shape is None:
        return log.finish()
    is_numbered = shape.startswith(b"#")
    if not is_numbered:
        log.notes.append(
            "No step's number is told: each line of the most frequent kind counts as a step, as"
            f" {shape[1:].decode('utf-8', 'replace').strip()[:60]!r}."
        )
    done = 0
    for line in itertools.chain(first, later):
        stamp_s = log.stamps.find(line)
        match = _NUMBER.search(line) if is_numbered else None
        is_step = match is not None if is_numbered else _shape(line) == shape
        if not is_step or math.isnan(stamp_s) or kind_of(line) not in _IN_STEPS:
            log.other(line)
            continue
        done = count(match[1]) if match is not None else done + 1
        log.step(done, line=line, unix_s=stamp_s, epoch=_epoch(line), numbers=_numbers(log, line))
    return log.finish()


def _numbers(log: LineLog, line: bytes) -> Numbers:
    names, values = log.names.numbers(line)
    match = _LOSS.search(line) if "loss" not in names else None
    return (names, values) if match is None else ((*names, "loss"), (*values, float(match[1])))


def _epoch(line: bytes) -> float:
    match = _EPOCH.search(line) if b"poch" in line else None
    return int(match[1]) if match is not None else math.nan


def _step_shape(lines: Iterable[bytes]) -> bytes | None:
    """Return the shape of the lines that tell of steps: those with numbers first; None if none repeats."""
    stamps, seen = Stamps(), Counter[bytes]()
    for line in lines:
        if line and not math.isnan(stamps.find(line)) and kind_of(line) in _IN_STEPS:
            seen[_shape(line)] += 1
    often = [(shape.startswith(b"#"), number, shape) for shape, number in seen.items() if number >= _FEWEST]
    return max(often)[2] if often else None


def _shape(line: bytes) -> bytes:
    """Return what lines of one kind have in common; ``#`` in front where they number a step."""
    if _NUMBER.search(line) is not None:
        return b"#"
    return b"-" + _CHANGING.sub(b"0", line[:_LONGEST_SHAPE])


FORMAT = LogFormat("lines with timestamps", looks_like_stamped_lines, read_stamped_lines)
