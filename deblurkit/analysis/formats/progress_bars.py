"""Progress bars of tqdm as they end up in log files: ``50/1000 [01:23<26:12,  1.65s/it, loss=0.12]``."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from deblurkit.analysis.formats.line_log import LineLog
from deblurkit.analysis.formats.scalar_names import number
from deblurkit.analysis.formats.timestamps import elapsed_seconds

_BAR = re.compile(
    rb"\b(\d{1,12})/(\d{1,12}) \[((?:\d{1,9}:)?\d\d:\d\d)<(?:[\d:]{4,15}|\?), {0,9}([\d.]{1,12}|\?) {0,2}"
    rb"(s/[A-Za-z]{1,12}|[A-Za-z]{1,12}/s)(?:, ?([^\]]{0,2000}))?\]"
)
_DIGITS = b"0123456789/."
_NOT_TRAINING = re.compile(
    rb"valid|\bval\b|test|eval|sanity|predict|infer|download|load|map|filter|token|generat|cach|prepar|shard",
    re.IGNORECASE,
)
_LONGEST_NAME = 60


class Bar(NamedTuple):
    """One state of a progress bar.

    Attributes:
        name: what it says in front, without numbers.
        done, total: units.
        elapsed_s: since it was made; whole seconds.
        seconds: a unit takes, averaged by tqdm over the last ones; NaN where it does not know yet.
        postfix: what stands behind the rate.
        start, end: where it is in its line.
    """

    name: bytes
    done: int
    total: int
    elapsed_s: float
    seconds: float
    postfix: bytes
    start: int
    end: int

    @property
    def key(self) -> tuple[bytes, int]:
        """What all states of a bar, and of those that follow it in later epochs, have in common."""
        return self.name, self.total


def bars_in(line: bytes) -> Iterator[Bar]:
    """Yield the progress bars in a line, from left to right."""
    begin = 0
    for match in _BAR.finditer(line):
        done, total, elapsed, rate, unit, postfix = match.groups()
        yield Bar(
            name=_name(line[begin : match.start()]),
            done=int(done),
            total=int(total),
            elapsed_s=elapsed_seconds(elapsed),
            seconds=_seconds(rate, unit),
            postfix=postfix or b"",
            start=match.start(),
            end=match.end(),
        )
        begin = match.end()


def training_bar(lines: Iterable[bytes]) -> tuple[bytes, int] | None:
    """Return the ``key`` of the bar that counts training steps: the most frequent that names nothing else."""
    seen: Counter[tuple[bytes, int]] = Counter()
    for line in lines:
        if b"[" in line and b"<" in line:
            seen.update(bar.key for bar in bars_in(line))
    likely = {key: often for key, often in seen.items() if _NOT_TRAINING.search(key[0]) is None}
    ranked = sorted(likely or seen, key=lambda key: -seen[key])
    return ranked[0] if ranked else None


class BarSteps:
    """Turns the states of one bar, and of those that follow it epoch after epoch, into steps of a log.

    Args:
        log: that gets them.
        key: of the bar.
    """

    def __init__(self, log: LineLog, key: tuple[bytes, int] | None) -> None:
        self._log, self._key = log, key
        self._before = 0  # steps of the bars before this one
        self._bar = 0
        self._done, self._elapsed_s = -1, math.nan
        log.tick_s = 1.0 if key is not None else log.tick_s

    @property
    def steps(self) -> int:
        """The number of the newest step."""
        return self._before + max(0, self._done)

    def take(self, bar: Bar, line: bytes) -> None:
        """Take in a state of any bar."""
        if bar.key != self._key:
            return
        if self._done < 0 or bar.done < self._done or bar.elapsed_s < self._elapsed_s:
            self._begin(bar)
        if bar.done > self._done:
            self._log.step(
                self._before + bar.done,
                line=line,
                unix_s=self._log.stamps.find(line[: bar.start]),
                elapsed_s=bar.elapsed_s,
                epoch=self._bar,
                seconds=bar.seconds,
                numbers=self._log.names.numbers(bar.postfix),
            )
            self._done = bar.done
        self._elapsed_s = bar.elapsed_s

    def _begin(self, bar: Bar) -> None:
        """Begin another bar: of the next epoch, or of a run that goes on where another one ended."""
        goes_on = math.isnan(bar.seconds)  # a rate is known as soon as the bar has moved
        self._before += max(0, self._done) if bar.done < self._done or not goes_on else 0
        self._bar += 1
        self._done = bar.done if goes_on else 0
        self._log.mark(self._before + self._done, elapsed_s=bar.elapsed_s if goes_on else 0.0)


def _name(front: bytes) -> bytes:
    percent = front.find(b"%")
    told = front[:percent] if percent >= 0 else front
    return told.translate(None, _DIGITS).strip(b" :|")[-_LONGEST_NAME:]


def _seconds(rate: bytes, unit: bytes) -> float:
    value = number(rate)
    if unit.startswith(b"s/"):
        return value
    return 1 / value if value > 0 else math.nan
