"""Several logs of one run as one: a run that was resumed, and what its other logs say beside the times."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from deblurkit.analysis.growing_log import joined
from deblurkit.analysis.tables import RunLog

_JSON_LINES = "timing-jsonl"
_TIMES = (_JSON_LINES, "timing-text", "timing-text-seed")
_BESIDE_TIMES = ("training-log", "tensorboard")  # what both tell is taken from the first
_FOLDERS_IN_A_RUN = ("logs", "tensorboard")
_STAMP = re.compile(r"(?:timing_|train_|tfevents\.)(\d{9,11})\b")

Key = TypeVar("Key")
Run = list[RunLog]  # logs of one rank, each going on where the one before it ends


def merged(logs: Iterable[RunLog]) -> list[RunLog]:
    """Return logs with those of one run as one, where they complete each other, and others as they are.

    Timing logs in a run's folder of which one goes on where another ended are joined, each rank for itself;
    one that begins anew is another run. Of text and JSON lines of the same start and rank, the text is left
    out. The training log and TensorBoard events of a run give their numbers and events to its lowest rank.
    """
    result: list[RunLog] = []
    for members in _grouped(logs, _folder_of).values():
        result += _of_one_folder(members)
    return result


def _of_one_folder(logs: Sequence[RunLog]) -> list[RunLog]:
    timed = [log for log in logs if log.format in _TIMES]
    runs = [run for rank in _grouped(timed, _rank_of).values() for run in _runs(_without_doubles(rank))]
    beside: dict[int, list[RunLog]] = {}
    others = []
    for log in logs:
        at = _nearest(log, runs) if log.format in _BESIDE_TIMES else None
        if at is not None:
            beside.setdefault(at, []).append(log)
        elif log.format not in _TIMES:
            others.append(log)
    return [_completed(_as_one(run), beside.get(at, [])) for at, run in enumerate(runs)] + others


def _grouped(logs: Iterable[RunLog], key: Callable[[RunLog], Key]) -> dict[Key, list[RunLog]]:
    groups: dict[Key, list[RunLog]] = {}
    for log in logs:
        groups.setdefault(key(log), []).append(log)
    return groups


def _folder_of(log: RunLog) -> Path:
    """Return the folder that all logs of its run are in or below."""
    folder = Path(log.source).parent
    while folder.name in _FOLDERS_IN_A_RUN:
        folder = folder.parent
    return folder


def _rank_of(log: RunLog) -> int | None:
    return log.rank


def _start_of(log: RunLog) -> float:
    """Return when a log was begun in seconds since 1970; NaN unknown."""
    stamp = _STAMP.search(Path(log.source).name)
    if stamp is not None:
        return float(stamp[1])
    known = log.steps["unix_s"].dropna()
    return float(known.iloc[0]) if len(known) else math.nan


def _without_doubles(logs: Sequence[RunLog]) -> list[RunLog]:
    """Return the logs of a rank without text that was written together with JSON lines."""
    exact = {_start_of(log) for log in logs if log.format == _JSON_LINES}
    return [log for log in logs if log.format == _JSON_LINES or _start_of(log) not in exact]


def _runs(logs: Sequence[RunLog]) -> list[Run]:
    """Return the logs of a rank in the order of their starts, those that go on together."""
    runs: list[Run] = []
    for log in sorted(logs, key=lambda log: (math.isnan(start := _start_of(log)), start)):
        if runs and _goes_on(runs[-1][-1], log):
            runs[-1].append(log)
        else:
            runs.append([log])
    return runs


def _goes_on(before: RunLog, log: RunLog) -> bool:
    """Return whether a log begins at a later step than the one before it, with no step between them lost."""
    first = int(log.steps["step"].iloc[0])
    return int(before.steps["step"].iloc[0]) < first <= int(before.steps["step"].max()) + 1


def _nearest(log: RunLog, runs: Sequence[Run]) -> int | None:
    """Return which run a log was written beside: of its lowest rank, the one begun at about the same time."""
    ranks = [run[0].rank for run in runs]
    lowest = min([rank for rank in ranks if rank is not None], default=None)
    own = [at for at, rank in enumerate(ranks) if rank == lowest]
    start = _start_of(log)
    away = {at: min(abs(_start_of(part) - start) for part in runs[at]) for at in own}
    known = {at: seconds for at, seconds in away.items() if not math.isnan(seconds)}
    if known:
        return min(known, key=known.__getitem__)
    return own[0] if len(own) == 1 else None


def _as_one(run: Run) -> RunLog:
    log = functools.reduce(joined, run)
    names = ", ".join(Path(part.source).name for part in run[1:])
    note = (f"Goes on in {names}.",) if names else ()
    return replace(log, source=run[0].source, notes=(*note, *log.notes))


def _completed(log: RunLog, beside: Sequence[RunLog]) -> RunLog:
    """Return a log of times with what the logs beside it tell."""
    by_format = _grouped(beside, lambda part: part.format)
    for name in _BESIDE_TIMES:
        if name in by_format:
            parts = sorted(by_format[name], key=_start_of)
            log = _with(
                log, functools.reduce(joined, parts), names=[Path(part.source).name for part in parts]
            )
    return log


def _with(log: RunLog, more: RunLog, *, names: Sequence[str]) -> RunLog:
    """Return a log with the numbers, the kinds of events and the times beside steps that it lacks."""
    known = {event.kind for event in log.events}
    samples = log.samples_per_step if log.samples_per_step is not None else more.samples_per_step
    return replace(
        log,
        scalars={**more.scalars, **log.scalars},
        events=(*log.events, *(event for event in more.events if event.kind not in known)),
        beside=log.beside or more.beside,
        samples_per_step=samples,
        damaged_lines=log.damaged_lines + more.damaged_lines,
        notes=(*log.notes, f"Losses, scores and events are from {', '.join(names)}."),
    )
