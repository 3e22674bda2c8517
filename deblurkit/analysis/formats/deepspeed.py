"""Reader of DeepSpeed's wall-clock breakdown: ``time (ms) | fwd: 654.24 | bwd: 1650.10 | … | step: 230.55``.

The line may stand anywhere in another one, often behind a progress bar. ``_microstep`` lines tell of parts of
a step, and count only where no line tells of whole ones. The times are of a clock that waits for the device.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from deblurkit.analysis.formats.hf_trainer import take_dict
from deblurkit.analysis.formats.line_columns import NO_NUMBERS, Numbers
from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.formats.scalar_names import number
from deblurkit.analysis.tables import RunLog, is_duration
from deblurkit.timing.records import clean_name
from deblurkit.units import GIB

_MARK = b"time (ms) |"
_PART = re.compile(rb"\| ?([A-Za-z][\w -]{0,60}): ([\d.]{1,15})")
_RANK = re.compile(rb"\b[Rr]ank[ =](\d{1,6})\b")
_STEP = re.compile(rb"\bstep=(\d{1,12}), skipped=(\d{1,12}), lr=\[([^\],]{1,40})")
_RATE = re.compile(
    rb"global_step=(\d{1,12}), RunningAvgSamplesPerSec=[\d.]{1,30}, CurrSamplesPerSec=([\d.]{1,30})"
    rb"(?:, MemAllocated=([\d.]{1,12})GB)?(?:, MaxMemAllocated=([\d.]{1,12})GB)?"
)
_LOSS = re.compile(
    rb"\bsteps: (\d{1,12}) loss: (\S{1,20}) iter time \(s\): ([\d.]{1,15}) samples/sec: ([\d.]{1,15})"
)
_MICRO = "_microstep"
_SKIPPED = ("skipped_steps",)
_SEARCHED = 8_192  # bytes behind the mark
_MOST_LAYOUTS = 1_000
_ENOUGH_PARTS = 1_000  # lines of parts before the first of a whole step; then there are no such lines
_NAMES = {
    "fwd": "forward",
    "forward": "forward",
    "bwd": "backward",
    "backward": "backward",
    "bwd_inner": "backward/backward_inner",
    "backward_inner": "backward/backward_inner",
    "bwd_allreduce": "backward/all_reduce",
    "backward_allreduce": "backward/all_reduce",
    "backward-backward": "backward/backward_inner",
    "backward-allreduce": "backward/all_reduce",
    "step": "optimizer",
    "optimizer": "optimizer",
    "batch_input": "data",
    "batch generator": "data",
    "batch-generator": "data",
}
_WHOLE = frozenset(("forward", "backward", "optimizer"))


def looks_like_deepspeed(head: bytes) -> bool:
    """Return whether DeepSpeed's times, or its line of a step, are in the first bytes of a file."""
    return (_MARK in head and _PART.search(head) is not None) or (
        b", skipped=" in head and _STEP.search(head) is not None
    )


def read_deepspeed(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return the steps of a log of DeepSpeed, of the first rank that it holds.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if nothing of the format is in it.
    """
    log = LineLog(source, "deepspeed", expected="time (ms) | fwd: 654.24 | bwd: 1650.10 | step: 230.55")
    parser = _Parser(log)
    for line in lines:
        parser.feed(line)
    parser.flush()
    return log.finish()


@dataclass
class _Pending:
    """What was told of a step whose line of times has not come yet."""

    step: int
    line: bytes
    unix_s: float
    learning_rate: float = math.nan
    numbers: Numbers = NO_NUMBERS


class _Parser:
    """The state between two lines."""

    def __init__(self, log: LineLog) -> None:
        self._log = log
        self._layouts: dict[tuple[bytes, ...], tuple[str, tuple[str, ...]]] = {}
        self._parts: list[tuple[bytes, Numbers, float]] | None = []  # None: whole steps are told of
        self._extra: dict[str, float] = {}
        self._pending: _Pending | None = None

    def feed(self, line: bytes) -> None:
        """Take one line in."""
        at = line.find(_MARK)
        if at >= 0:
            self._take_times(line, at)
        elif b", skipped=" in line and (match := _STEP.search(line)) is not None:
            self._take_step(line, match)
        elif b"SamplesPerSec" in line and (match := _RATE.search(line)) is not None:
            self._take_rate(line, match)
        elif b"iter time (s)" in line and (match := _LOSS.search(line)) is not None:
            self._take_loss(line, match)
        elif not take_dict(self._log, line):
            self._log.other(line)

    def flush(self) -> None:
        """Take in what still waits for a line that will not come."""
        for line, times, unix_s in self._parts or ():
            self._add(line, times, unix_s)
        if self._pending is not None:
            self._add_pending(self._pending)

    def _take_times(self, line: bytes, at: int) -> None:
        found = _PART.findall(line, at, at + _SEARCHED)
        values = [number(value) for _, value in found]
        if not found or not all(map(is_duration, values)):
            self._log.damaged()
            return
        if not self._is_first_rank(line):
            return
        raw = tuple([name for name, _ in found])
        kind, names = self._layouts.get(raw) or self._new_layout(raw)
        unix_s = self._log.stamps.find_before(line, at)
        if kind == "part":
            self._take_part(line, (names, values), unix_s)
        elif kind == "extra":
            self._extra.update(zip(names, values, strict=True))
        else:
            self._parts = None
            if self._extra:
                names, values = (*self._extra, *names), [*self._extra.values(), *values]
                self._extra = {}
            self._add(line, (names, values), unix_s)

    def _new_layout(self, raw: tuple[bytes, ...]) -> tuple[str, tuple[str, ...]]:
        """Return what a line with these names tells of (``whole`` step, ``part``, ``extra``), and ours."""
        plain = [name.decode().strip() for name in raw]
        names = [
            _NAMES.get(name.removesuffix(_MICRO), clean_name(name.removesuffix(_MICRO))) for name in plain
        ]
        if any(name.endswith(_MICRO) for name in plain) or "optimizer" in plain:
            kind = "part"  # "optimizer": Megatron's line about the step before
        elif _WHOLE.isdisjoint(names):
            kind, names = "extra", [f"optimizer/{name}" for name in names]
        else:
            kind = "whole"
        if len(self._layouts) >= _MOST_LAYOUTS:
            self._layouts.clear()
        layout = self._layouts[raw] = (kind, tuple(names))
        return layout

    def _take_part(self, line: bytes, times: Numbers, unix_s: float) -> None:
        if self._parts is None:
            return
        self._parts.append((line, times, unix_s))
        if len(self._parts) >= _ENOUGH_PARTS:
            for part in self._parts:
                self._add(*part)
            self._parts.clear()

    def _add(self, line: bytes, times: Numbers, unix_s: float) -> None:
        pending, self._pending = self._pending, None
        step = pending.step if pending is not None else self._log.last_step + 1
        tops = sum([value for name, value in zip(*times, strict=True) if "/" not in name])
        self._log.step(
            step,
            line=line,
            unix_s=unix_s,
            seconds=tops / 1e3,
            learning_rate=pending.learning_rate if pending is not None else math.nan,
            numbers=pending.numbers if pending is not None else NO_NUMBERS,
            phases=times,
        )

    def _take_step(self, line: bytes, match: re.Match[bytes]) -> None:
        if not self._is_first_rank(line):
            return
        if self._pending is not None:
            self._add_pending(self._pending)
        self._pending = _Pending(
            step=int(match[1]),
            line=line,
            unix_s=self._log.stamps.find_before(line, match.start()),
            learning_rate=number(match[3]),
            numbers=(_SKIPPED, (float(int(match[2])),)),
        )

    def _add_pending(self, pending: _Pending) -> None:
        self._log.step(
            pending.step,
            line=pending.line,
            unix_s=pending.unix_s,
            learning_rate=pending.learning_rate,
            numbers=pending.numbers,
        )
        self._pending = None

    def _take_rate(self, line: bytes, match: re.Match[bytes]) -> None:
        step = int(match[1])
        self._log.scalar("samples_per_second", number(match[2]), line=line, step=step)
        for name, text in (("cuda_allocated_bytes", match[3]), ("cuda_peak_allocated_bytes", match[4])):
            if text is not None:
                self._log.scalar(name, number(text) * GIB, line=line, step=step)

    def _take_loss(self, line: bytes, match: re.Match[bytes]) -> None:
        step = int(match[1])
        for name, value in (("loss", match[2]), ("samples_per_second", match[4])):
            self._log.scalar(name, number(value), line=line, step=step)
        self._log.scalar("printed_ms", 1e3 * number(match[3]), line=line, step=step)

    def _is_first_rank(self, line: bytes) -> bool:
        match = _RANK.search(line)
        if match is None:
            return True
        rank = int(match[1])
        if self._log.rank is None:
            self._log.rank = rank
        return rank == self._log.rank


FORMAT = LogFormat("DeepSpeed log", looks_like_deepspeed, read_deepspeed)
