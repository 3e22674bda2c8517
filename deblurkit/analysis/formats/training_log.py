"""Reader of the training log ``train_{unix time}.log``: ours, and that of the scripts before it.

``2026-01-31 10:00:01 step 950/8880 | loss=0.01234 | lr=4.000e-04 | 0.5 samples/s | data_time=0.1ms``; the old
scripts wrote no stamp. Between the steps stand scores, memory, cache statistics and, at the end of a run of
ours, what was spent beside the steps and the checks of the run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from deblurkit.analysis.formats.line_columns import Numbers
from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.formats.scalar_names import NUMBER, number
from deblurkit.analysis.tables import RunLog
from deblurkit.timing.records import Beside

_MARK = b"step "
_STEP = re.compile(rb"\bstep (\d{1,15})/\d{1,15} \|")
_OURS = re.compile(
    rb"\bstep (\d{1,15})/\d{1,15} \| loss=("
    + NUMBER
    + rb") \| lr=([\d.e+-]{1,15}) \| ([\d.]{1,15}) samples/s"
    rb"(?: \| data_time=([\d.]{1,15})ms)?(?: \| load_time=([\d.]{1,15})ms)?$"
)
_NAMES = ("loss", "samples_per_second")
_NAMES_WITH_LOAD = (*_NAMES, "load_ms")
_HALF = re.compile(rb"\bstep \d{1,15}/?\d{0,15}$|\bstep \d{1,15}/\d{1,15}\b")
_TIME = re.compile(rb"\b(\w{0,12}time)\s?[=:]\s?([\d.]{1,15})(ms|s)\b")
_RATE = re.compile(rb"\b([\d.]{1,15}) ?(samples/s|ms/step|s/step|s/it|steps?/s|it/s)(?!\w)")
_BESIDE = re.compile(rb"\bbeside [\d.]{1,15} s of steps: (.*)$")
_PART = re.compile(rb"([a-z][a-z ]{0,40}) ([\d.]{1,15}) s\b")
_CHECK = re.compile(rb"(?:^|\d )(?:pass|WARN|FAIL|unknown) [a-z_]{2,30}: |\bverification: \d+ passed,")
_STEP_TIMES = ("step_time", "iter_time", "batch_time", "time")
_KINDS = {"validation": "validation", "checkpoints": "checkpoint"}


def looks_like_training_log(head: bytes) -> bool:
    """Return whether ``step 950/8880 |`` is in the first bytes of a file."""
    return _MARK in head and _STEP.search(head) is not None


def read_training_log(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return the steps, losses, scores, memory and cache figures of a training log.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if nothing of the format is in it.
    """
    expected = "step 950/8880 | loss=0.01234 | 0.5 samples/s | data_time=0.1ms"
    log = LineLog(source, "training-log", expected=expected)
    for line in lines:
        at = line.find(_MARK)
        if at >= 0 and (match := _OURS.match(line, at)) is not None:
            _take_our_step(log, line, match)
        elif at >= 0 and (match := _STEP.search(line)) is not None:
            _take_step(log, line, match)
        else:
            _take_other(log, line)
    return log.finish()


def _take_our_step(log: LineLog, line: bytes, match: re.Match[bytes]) -> None:
    step, loss, rate, per_second, data_ms, load_ms = match.groups()
    values = (float(loss), number(per_second))
    log.step(
        int(step),
        line=line,
        unix_s=log.stamps.find_before(line, match.start()),
        data_s=number(data_ms) / 1e3,
        learning_rate=number(rate),
        numbers=(_NAMES, values) if load_ms is None else (_NAMES_WITH_LOAD, (*values, number(load_ms))),
    )


def _take_step(log: LineLog, line: bytes, match: re.Match[bytes]) -> None:
    rest = line[match.end() :]
    seconds = dict(_seconds(rest))
    numbers = log.names.numbers(rest)
    if (rate := _RATE.search(rest)) is not None:
        value = number(rate[1])
        if rate[2] == b"samples/s":
            numbers = _with(numbers, "samples_per_second", value)
        else:
            seconds["time"] = (
                value / 1e3 if rate[2] == b"ms/step" else value if rate[2][:2] == b"s/" else 1 / value
            )
    if "load_time" in seconds:
        numbers = _with(numbers, "load_ms", 1e3 * seconds["load_time"])
    log.step(
        int(match[1]),
        line=line,
        unix_s=log.stamps.find_before(line, match.start()),
        seconds=next((seconds[name] for name in _STEP_TIMES if name in seconds), math.nan),
        data_s=seconds.get("data_time", math.nan),
        numbers=numbers,
    )


def _with(numbers: Numbers, name: str, value: float) -> Numbers:
    names, values = numbers
    return (*names, name), (*values, value)


def _seconds(text: bytes) -> Iterator[tuple[str, float]]:
    for name, value, unit in _TIME.findall(text):
        yield name.decode(), number(value) * (1e-3 if unit == b"ms" else 1.0)


def _take_other(log: LineLog, line: bytes) -> None:
    if _MARK in line and _HALF.search(line) is not None and b"after step" not in line:
        log.damaged()
    elif b"beside " in line and (match := _BESIDE.search(line)) is not None:
        log.beside += _beside(log, match[1])
    elif _CHECK.search(line) is None:
        log.other(line)


def _beside(log: LineLog, text: bytes) -> Iterator[Beside]:
    for name, seconds in _PART.findall(text):
        what = name.decode().strip()
        often = log.events.count(_KINDS.get(what, what))
        yield Beside(what, number(seconds), max(1, often), log.last_step)


FORMAT = LogFormat(
    "training log of deblurkit or of the scripts before it", looks_like_training_log, read_training_log
)
