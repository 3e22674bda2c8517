"""Why a run has ended: what its own records, the kernel log and the control groups say about it."""

from __future__ import annotations

import datetime
import json
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from deblurkit.analysis.formats.log_events import kind_of
from deblurkit.memory.kernel_log import KernelLog, OomKill, oom_kills
from deblurkit.memory.pressure import OomCount
from deblurkit.memory.rows import LastMemory, last_memory
from deblurkit.units import format_bytes, plural

Status = Literal["finished", "running", "interrupted", "failed", "killed", "unknown"]
CauseKind = Literal[
    "cgroup-limit", "machine-memory", "gpu-memory", "host-allocation", "restart", "signal", "error", "unknown"
]
Certainty = Literal["certain", "likely", "possible"]
_CERTAINTIES = ("certain", "likely", "possible")
_ENDED: dict[str | None, Status] = {
    "finished": "finished",
    "interrupted": "interrupted",
    "failed": "failed",
    "killed": "killed",
}
_LOCK = re.compile(r"process (\d+) on (\S+)")
_PID = re.compile(r"\bpid(?:\(s\))?[ :=]+(\d+)", re.IGNORECASE)  # "Process 7 has 9 GiB" may be another's
_SLACK = 5.0  # seconds between the clocks of the kernel and of a run's records
_SILENCE = 600.0  # seconds from a run's last sign of life in which another's kill may be what has ended it
_OWN_SILENCE = 86_400.0  # likewise a kill of its own number: a validation may say nothing for hours
_TAIL = 2**16  # bytes at the end of a log
_STAMP = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")  # the journal's
_TELLING = ("oom", "killed", "memory-warning", "error")
_HOST_ALLOCATION = re.compile(
    r"DefaultCPUAllocator|cannot allocate memory|unable to allocate|MemoryError|host memory", re.IGNORECASE
)
_SIGNAL = re.compile(r"SIG[A-Z]+")
_MEMORY_LOG = "the run's log of its memory"


@dataclass(frozen=True)
class RunEnd:
    """What a run's folder says of the newest part of the run.

    Attributes:
        status: ``killed`` where it has not told its end and its process is gone; ``unknown`` where that
            cannot be said from here.
        error: the first line of what has ended it; None where it has not told.
        started_at: Unix seconds; None where it is not told.
        ended_at: likewise.
        hostname: of the machine that it ran on.
        pid: of its first process; None where the lock does not tell.
        told: lines at the end of its log that are of memory, kills and errors.
        pids: of its processes, workers among them, as far as its record names them.
        memory: what its own logs say last of its memory; None where they say nothing.
        last_sign_at: Unix seconds at which its record or its logs were last written; None without any.
    """

    status: Status
    error: str | None
    started_at: float | None
    ended_at: float | None
    hostname: str | None
    pid: int | None
    told: tuple[str, ...]
    pids: tuple[int, ...] = ()
    memory: LastMemory | None = None
    last_sign_at: float | None = None


@dataclass(frozen=True)
class Cause:
    """What may have ended a run.

    Attributes:
        kind: see ``CauseKind``.
        certainty: ``certain`` where the kernel or the run names it, ``likely`` where it fits in time alone,
            ``possible`` where a counter does not say when.
        text: for the user.
        source: who says so, as a user knows it.
    """

    kind: CauseKind
    certainty: Certainty
    text: str
    source: str


@dataclass(frozen=True)
class Aftermath:
    """How a run has ended, and why.

    Attributes:
        end: what its folder says.
        causes: the most certain one first; empty where it has not ended, or has finished.
        unseen: what could not be looked at, a line each.
    """

    end: RunEnd
    causes: tuple[Cause, ...]
    unseen: tuple[str, ...]


def aftermath(
    end: RunEnd,
    *,
    log: KernelLog,
    counts: Sequence[OomCount],
    booted_at: Callable[[], float] = psutil.boot_time,
    hostname: str | None = None,
) -> Aftermath:
    """Return why a run has ended.

    Args:
        end: as `read_run_end` gives it.
        log: of the kernel of this machine.
        counts: how often memory has run out, as `oom_counts` gives it.
        booted_at: gives the Unix seconds of this machine's last boot.
        hostname: of this machine; None asks the system.
    """
    if end.status not in ("failed", "killed"):
        return Aftermath(end, (), ())
    here = hostname or platform.node()
    if end.hostname is not None and end.hostname != here:
        unseen = f"the run was on {end.hostname}: what the kernel of {here} says is not of it"
        return Aftermath(end, tuple(_of_words(end)), (unseen,))
    kills = [kill for kill in oom_kills(log.lines, booted_at=booted_at) if _is_in_time(kill, end)]
    found = [*_of_kernel(kills, end, log), *_of_boot(end, booted_at()), *_of_words(end), *_of_memory(end)]
    if not any(cause.certainty == "certain" for cause in found):
        found += _of_counts(counts) if log.source is None else ()
    if not found:
        found.append(_unexplained(log, end))
    return Aftermath(end, tuple(_in_order(found)), (log.unseen,) if log.unseen else ())


def read_run_end(
    folder: Path,
    *,
    runs_still: Callable[[int, float | None], bool] | None = None,
    hostname: str | None = None,
) -> RunEnd:
    """Return what a run's folder says of the newest part of the run; ``unknown`` where there is no record.

    Args:
        folder: of the run, with ``run.json``, ``.lock`` and ``logs/train_*.log``.
        runs_still: tells whether a process of that number lives that is no younger than those Unix seconds;
            None asks the system.
        hostname: of this machine; None asks the system.
    """
    part = _newest_part(folder / "run.json")
    pid, holder = _lock_of(folder / ".lock")
    started_at, ended_at = _moment(part.get("started_at")), _moment(part.get("ended_at"))
    is_here = holder == (hostname or platform.node())
    lives = (runs_still or _runs_still)(pid, started_at) if pid is not None and is_here else None
    return RunEnd(
        status=_status(part.get("status"), lives=lives),
        error=part.get("error"),
        started_at=started_at,
        ended_at=ended_at,
        hostname=part.get("hostname") or holder,
        pid=pid,
        told=tuple(_told(folder / "logs", started_at)),
        pids=tuple(_pids(part.get("pids"))),
        memory=last_memory(folder / "logs", since=started_at),
        last_sign_at=_last_sign_at(folder),
    )


def _status(told: str | None, *, lives: bool | None) -> Status:
    """Return the status of a part from its record, and from whether its process lives."""
    if told in _ENDED:
        return _ENDED[told]
    if told != "running" or lives is None:
        return "unknown"
    return "running" if lives else "killed"


def _of_kernel(kills: Sequence[OomKill], end: RunEnd, log: KernelLog) -> Iterator[Cause]:
    own = _own_pids(end)
    for kill in kills:
        held = "" if kill.rss_bytes is None else f" with {format_bytes(kill.rss_bytes)}"
        whose = "of this run" if kill.pid in own else "not known to be of this run"
        when = "" if kill.at is None else f", at {_as_moment(kill.at)}"
        where = {"": "the machine was out of memory", None: "a control group was at its limit"}.get(
            kill.of_cgroup, f"the control group {kill.of_cgroup} was at its limit"
        )
        text = f"{where}: the kernel killed process {kill.pid} ({kill.name}){held}, {whose}{when}"
        kind: CauseKind = "machine-memory" if kill.of_cgroup == "" else "cgroup-limit"
        certainty: Certainty = "certain" if kill.pid in own else "likely"
        yield Cause(kind, certainty, text, str(log.source))


def _of_boot(end: RunEnd, booted_at: float) -> Iterator[Cause]:
    if end.status != "killed" or end.started_at is None or booted_at <= end.started_at + _SLACK:
        return
    if end.last_sign_at is None or booted_at <= end.last_sign_at + _SILENCE:
        yield Cause("restart", "certain", "the machine was restarted while it ran", "boot time")
        return
    text = f"the machine was restarted at {_as_moment(booted_at)}; the run was silent before"
    yield Cause("restart", "possible", text, "boot time")


def _of_words(end: RunEnd) -> Iterator[Cause]:
    """Yield what the run itself has said: its error, or else the last line of its log that tells of one."""
    if end.error is not None:
        yield Cause(_kind_of_words(end.error), "certain", end.error, "run.json")
    elif end.told:
        yield Cause(_kind_of_words(end.told[-1]), "likely", end.told[-1], "the run's log")


def _of_memory(end: RunEnd) -> Iterator[Cause]:
    """Yield that memory was short when the run last looked, and what it has warned of since."""
    memory = end.memory
    if memory is None or end.error is not None:
        return
    if memory.was_short:
        kind: CauseKind = "cgroup-limit" if memory.limit_kind == "cgroup" else "machine-memory"
        yield Cause(kind, "likely", f"memory was short: {memory.as_words()}", _MEMORY_LOG)
    for warning in memory.warnings:
        if any(warning in line for line in end.told):
            continue
        text = f"the run had warned: {warning}; {memory.as_words()}"
        yield Cause("machine-memory", "possible", text, _MEMORY_LOG)


def _kind_of_words(text: str) -> CauseKind:
    if _HOST_ALLOCATION.search(text):
        return "host-allocation"
    kind = kind_of(_STAMP.sub(b"", text.encode()))
    if kind == "oom" or re.search(r"memory of cuda\S* has run out", text):
        return "gpu-memory"
    if kind == "memory-warning":
        return "machine-memory"
    return "signal" if kind == "killed" or _SIGNAL.search(text) else "error"


def _of_counts(counts: Sequence[OomCount]) -> Iterator[Cause]:
    for count in counts:
        if count.kills:
            whose = "on this machine" if count.is_machine else "in this control group"
            killed = f"the kernel has killed {plural(count.kills, 'process')} {whose}"
            text = f"{killed} for want of memory; when is not told"
            kind: CauseKind = "machine-memory" if count.is_machine else "cgroup-limit"
            yield Cause(kind, "possible", text, str(count.source))


def _unexplained(log: KernelLog, end: RunEnd) -> Cause:
    said = "the kernel log has no kill of that time" if log.source else "nothing that can be read says why"
    text = f"{said}: a user, a job scheduler's limit (time, memory) or a closed session may have ended it"
    if end.memory is not None:
        text = f"{text}; memory was not short: {end.memory.as_words()}"
    return Cause("unknown", "possible", text, str(log.source or "nothing"))


def _in_order(causes: Sequence[Cause]) -> list[Cause]:
    return sorted(causes, key=lambda cause: _CERTAINTIES.index(cause.certainty))


def _is_in_time(kill: OomKill, end: RunEnd) -> bool:
    """Return whether a kill may have been while the run ran; one without a time may, if it is of the run.

    Of a run that has not told its end, the last sign of life bounds it.
    """
    is_own = kill.pid in _own_pids(end)
    if kill.at is None:
        return is_own
    if end.started_at is not None and kill.at < end.started_at - _SLACK:
        return False
    if end.ended_at is not None:
        return kill.at <= end.ended_at + _SLACK
    silence = _OWN_SILENCE if is_own else _SILENCE
    return end.last_sign_at is None or kill.at <= end.last_sign_at + silence


def _as_moment(at: float) -> str:
    return datetime.datetime.fromtimestamp(at).isoformat(sep=" ", timespec="seconds")


def _own_pids(end: RunEnd) -> set[int]:
    """Return the numbers of processes that the run names: its own, and workers that it has lost."""
    texts = [*end.told, end.error or ""]
    named = {int(number) for text in texts for number in _PID.findall(text)} | set(end.pids)
    return named if end.pid is None else named | {end.pid}


def _newest_part(path: Path) -> dict[str, Any]:
    try:
        part = json.loads(path.read_text(encoding="utf-8"))["parts"][-1]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return {}
    return part if isinstance(part, dict) else {}


def _lock_of(path: Path) -> tuple[int | None, str | None]:
    """Return the process that holds, or held, a run's folder, and its machine; its end removes the file."""
    try:
        found = _LOCK.search(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, None
    return (int(found[1]), found[2]) if found else (None, None)


def _pids(of_ranks: Any) -> Iterator[int]:
    """Yield the numbers in a record's list of ranks, each with its main process and its workers."""
    for rank in of_ranks if isinstance(of_ranks, list) else ():
        known = [rank.get("main"), *(rank.get("workers") or ())] if isinstance(rank, dict) else ()
        yield from (pid for pid in known if isinstance(pid, int))


def _moment(text: str | None) -> float | None:
    try:
        return None if text is None else datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _last_sign_at(folder: Path) -> float | None:
    """Return when the record or a log of a run was last written; None where there is none."""
    logs = (*folder.glob("logs/train_*"), *folder.glob("logs/timing_*"))
    written = [path.stat().st_mtime for path in (folder / "run.json", *logs) if path.exists()]
    return max(written, default=None)


def _told(folder: Path, started_at: float | None) -> list[str]:
    """Return the lines at the end of the newest log that tell of memory, kills and errors."""
    logs = sorted(folder.glob("train_*.log"), key=lambda path: path.stat().st_mtime)
    if not logs or (started_at is not None and logs[-1].stat().st_mtime < started_at):
        return []
    with logs[-1].open("rb") as file:
        file.seek(max(0, logs[-1].stat().st_size - _TAIL))
        lines = file.read().splitlines()
    return [line.decode("utf-8", "replace") for line in lines if kind_of(_STAMP.sub(b"", line)) in _TELLING]


def _runs_still(pid: int, since: float | None) -> bool:
    try:
        found = psutil.Process(pid)
        is_older = since is None or found.create_time() <= since + _SLACK  # else the number is another's now
        return is_older and found.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
