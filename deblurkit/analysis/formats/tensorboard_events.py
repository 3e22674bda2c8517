"""Reader of TensorBoard's event files: scalars with their steps and wall times, whoever wrote them.

Times of steps come from our own ``timing/…`` tags where they are there, else from the wall times of the tag
that was written most often.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import pandas as pd

from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.formats.scalar_frames import with_total_loss
from deblurkit.analysis.formats.tensorboard_steps import (
    TIMING,
    Series,
    TimedSteps,
    printed_phases,
    steps_between,
    validations_of,
    with_epochs,
)
from deblurkit.analysis.formats.tensorboard_tags import QUICK_LOOK, TRAINING, VALIDATION, meaning_of
from deblurkit.analysis.formats.tensorboard_values import scalars_in
from deblurkit.analysis.formats.tfrecord import read_records
from deblurkit.analysis.tables import MOST_NAMES, Event, RunLog, is_step
from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import clean_name
from deblurkit.units import plural

_FIRST_EVENT = b"brain.Event:"
_LATEST_UNIX_S = 1e11
_WATCHED = ("loss", "grad_norm")  # a value of these that is no number is worth an event
_QUALITY = ("psnr_db", "ssim", "lpips")  # the only one of its kind is the main one
_ALIKE = (  # any of several is as good
    "learning_rate",
    "cuda_allocated_bytes",
    "cuda_reserved_bytes",
    "cpu_utilisation",
    "host_memory_share",
)
_SESSIONS = {1: "start", 3: "checkpoint"}  # SessionLog.SessionStatus


def looks_like_events(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of TensorBoard's events."""
    return b"\0" in head[:12] and _FIRST_EVENT in head[:64]


def read_events(file: BinaryIO, *, source: str) -> RunLog:
    """Return the scalars of an event file, and the steps that they tell of.

    Args:
        file: at its beginning; it is only read on.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if no scalar is in it.
    """
    gatherer = _Gatherer(source)
    for record in read_records(file):
        gatherer.take(record)
    return gatherer.finish()


FORMAT = LogFormat("TensorBoard events", looks_like_events, read_events, is_binary=True)


class _Gatherer:
    """The scalars so far, by tag, and the steps that ``timing/…`` tags told."""

    def __init__(self, source: str) -> None:
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto.event_pb2 import Event as Written

        self._decode, self._failure = Written.FromString, DecodeError
        self._source = source
        self._series: dict[str, Series] = {}
        self._timed = TimedSteps()
        self._events: list[Event] = []
        self._not_finite: set[str] = set()
        self._damaged = self._left_out = 0

    def take(self, record: bytes | None) -> None:
        """Take in the bytes of an event, or None for damage."""
        try:
            event = self._decode(record) if record is not None else None
        except self._failure:
            event = None
        if event is None or not is_step(event.step):
            self._damaged += 1
            return
        unix_s = event.wall_time if 0 < event.wall_time < _LATEST_UNIX_S else math.nan
        kind = _SESSIONS.get(event.session_log.status)
        if kind is not None:
            self._note(kind, f"session log: {event.session_log.msg}", event.step, unix_s)
        for tag, value in scalars_in(event):
            self._take_scalar(tag, value, event.step, unix_s)

    def finish(self) -> RunLog:
        """Return what was read."""
        if not self._series:
            raise DeblurkitError(
                f"{self._source}: TensorBoard events without a scalar: expected numbers of a training run,"
                f" such as train/loss; {plural(self._damaged, 'record')} could not be read; take the file"
                " that the trainer writes its loss to"
            )
        timed = len(self._timed) > 0
        series = [one for tag, one in self._series.items() if not (timed and tag.startswith(TIMING))]
        validations = validations_of(series)
        between = steps_between(series, validations)
        scalars, about_loss = with_total_loss(_named(series))
        steps, times = (
            self._timed.frames() if timed else (between.steps, printed_phases(between.steps, scalars))
        )
        return RunLog(
            source=self._source,
            format="tensorboard",
            steps=with_epochs(steps, scalars.pop("epoch", None)),
            times=times,
            num_steps=int(steps["count"].sum()),
            damaged_lines=self._damaged,
            notes=tuple(filter(None, (about_loss, *self._notes(timed, between.tag, len(steps))))),
            beside=() if timed else between.beside,
            scalars=scalars,
            events=tuple(sorted([*self._events, *validations], key=lambda event: event.unix_s or 0.0)),
        )

    def _take_scalar(self, tag: str, value: float, step: int, unix_s: float) -> None:
        series = self._series.get(tag)
        if series is None:
            if len(self._series) >= MOST_NAMES:
                self._left_out += 1
                return
            series = self._series[tag] = Series(tag, meaning_of(tag))
        series.add(step, unix_s, value)
        if tag.startswith(TIMING):
            self._timed.take(tag, value, step=step, unix_s=unix_s)
        elif not math.isfinite(value) and tag not in self._not_finite:
            self._not_finite.add(tag)
            if series.meaning.name.partition("/")[0] in _WATCHED:
                self._note("nonfinite", f"{tag}: {value}", step, unix_s)

    def _note(self, kind: str, text: str, step: int, unix_s: float) -> None:
        self._events.append(Event(kind, text[:300], step, None if math.isnan(unix_s) else unix_s))

    def _notes(self, timed: bool, tag: str, num_rows: int) -> Iterator[str]:
        if not timed and num_rows:
            yield (
                f"Times of steps are from the wall times of {clean_name(tag)}; a row is the mean of the steps"
                " since the value before."
            )
        if self._left_out:
            yield f"{plural(self._left_out, 'value')} left out: more than {MOST_NAMES:,} tags."


def _named(series: Iterable[Series]) -> dict[str, pd.DataFrame]:
    """Return the scalars by the names that the rules know; of several with one name the longest has it."""
    names: dict[str, Series] = {}
    for one in sorted(series, key=len, reverse=True):
        name = one.meaning.name if one.meaning.name not in names else clean_name(one.tag)
        names.setdefault(name, one)
    for main in _QUALITY + _ALIKE:
        parts = [name for name in names if name.startswith(f"{main}/") and not _is_aside(name)]
        if main not in names and (len(parts) == 1 or (parts and main in _ALIKE)):
            names[main] = names.pop(parts[0])
    return {name: one.frame() for name, one in names.items()}


def _is_aside(name: str) -> bool:
    return name.split("/")[1] in (TRAINING, VALIDATION, QUICK_LOOK)
