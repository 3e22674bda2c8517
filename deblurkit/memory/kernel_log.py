"""What the kernel log says of processes that were killed for want of memory; often only root may read it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

DEVICE = Path("/dev/kmsg")
FILES = (Path("/var/log/kern.log"), Path("/var/log/syslog"), Path("/var/log/messages"))
_RECORD = 8192  # bytes: the kernel's longest
_LAST = 2**22  # bytes of a log file that are read
_KILLED = re.compile(r"(Memory cgroup out of memory|Out of memory)[^:]*: Kill(?:ed)? process (\d+) \((.*?)\)")
_SIZES = re.compile(r"(anon|file|shmem)-rss:(\d+)kB")
_UID = re.compile(r"\bUID:(\d+)")
_CONSTRAINT = re.compile(r"oom-kill:constraint=.*")
_VALUE = re.compile(r"(\w+)=([^,]*)")
_SINCE_BOOT = re.compile(r"\[\s*(\d+\.\d+)\]")
_FIRST_WORDS = re.compile(r"(kernel: |\] )Linux version \d")
_DISORDER = 1.0  # seconds that a line may be older than the one before it, and of the same boot


@dataclass(frozen=True)
class KernelLog:
    """Lines of the kernel's log.

    Attributes:
        lines: with the seconds since boot in brackets, as ``dmesg`` prints them; older lines may be gone.
        source: where they are from; None where none can be read.
        unseen: why not; empty where they can.
    """

    lines: tuple[str, ...]
    source: Path | None
    unseen: str = ""


@dataclass(frozen=True)
class OomKill:
    """A process that the kernel has killed because memory had run out.

    Attributes:
        pid: its number, as the kernel counts; another one within a container.
        name: of the program, at most 15 bytes.
        uid: of who ran it; None where it is not told.
        rss_bytes: what it held; None where it is not told.
        of_cgroup: the control group whose limit was met; empty where the whole machine was out of memory,
            None where it is a group that is not told.
        task_cgroup: the control group that it was in; None where it is not told.
        at: Unix seconds; None where it is not told.
    """

    pid: int
    name: str
    uid: int | None
    rss_bytes: int | None
    of_cgroup: str | None
    task_cgroup: str | None
    at: float | None


def read_kernel_log(
    device: Path = DEVICE,
    files: Sequence[Path] = FILES,
    *,
    booted_at: Callable[[], float] = psutil.boot_time,
) -> KernelLog:
    """Return the kernel log: from the kernel, or else from where a system logger keeps it.

    Of a file, which lasts for several boots, only what it says since the last one.

    Args:
        device: of the kernel.
        files: of system loggers; the first one that can be read, and was written since the last boot, counts.
        booted_at: gives the Unix seconds of the last boot.
    """
    try:
        return KernelLog(tuple(_records(device)), device)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    for path in files:
        try:
            lines, is_new = _of_last_boot(_last_lines(path)), path.stat().st_mtime >= booted_at()
        except OSError:
            continue
        if is_new:
            return KernelLog(tuple(lines), path)
    return KernelLog((), None, f"the kernel log cannot be read ({reason}); root sees it: sudo dmesg")


def oom_kills(lines: Iterable[str], *, booted_at: Callable[[], float] = psutil.boot_time) -> list[OomKill]:
    """Return the processes that a kernel log tells of, oldest first.

    Args:
        lines: of the log.
        booted_at: gives the Unix seconds of the boot that the lines count from.
    """
    kills: list[OomKill] = []
    constraint: dict[str, str] = {}
    for line in lines:
        if match := _CONSTRAINT.search(line):
            constraint = dict(_VALUE.findall(match[0]))
        elif match := _KILLED.search(line):
            kill = _kill(line, match, booted_at)
            kills.append(_with_groups(kill, constraint))
            constraint = {}
    return kills


def _kill(line: str, match: re.Match[str], booted_at: Callable[[], float]) -> OomKill:
    sizes = [1024 * int(size) for _, size in _SIZES.findall(line)]
    uid, stamp = _UID.search(line), _SINCE_BOOT.search(line)
    return OomKill(
        pid=int(match[2]),
        name=match[3],
        uid=int(uid[1]) if uid else None,
        rss_bytes=sum(sizes) if sizes else None,
        of_cgroup=None if match[1].startswith("Memory cgroup") else "",
        task_cgroup=None,
        at=booted_at() + float(stamp[1]) if stamp else None,
    )


def _with_groups(kill: OomKill, constraint: dict[str, str]) -> OomKill:
    """Return a kill with what the line before it says, if that is of the same process."""
    if constraint.get("pid") != str(kill.pid):
        return kill
    of_cgroup = kill.of_cgroup if kill.of_cgroup == "" else constraint.get("oom_memcg")
    return replace(kill, of_cgroup=of_cgroup, task_cgroup=constraint.get("task_memcg"))


def _records(device: Path) -> Iterator[str]:
    """Yield the records of /dev/kmsg that are there now: ``priority,number,microseconds,flags;text``."""
    descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            try:
                record = os.read(descriptor, _RECORD)
            except BlockingIOError:
                return
            except BrokenPipeError:  # what was to come next has been overwritten
                continue
            if not record:
                return
            yield from _lines_of(record.decode("utf-8", "replace"))
    finally:
        os.close(descriptor)


def _lines_of(text: str) -> Iterator[str]:
    for record in text.splitlines():
        head, semicolon, message = record.partition(";")
        fields = head.split(",")
        if semicolon and len(fields) > 2 and fields[2].isdigit():  # others continue one, or say of a device
            yield f"[{int(fields[2]) / 1e6:.6f}] {message}"


def _last_lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST))
        return file.read().decode("utf-8", "replace").splitlines()


def _of_last_boot(lines: Sequence[str]) -> Sequence[str]:
    """Return the lines from the kernel's first words on, or from where its clock has begun anew."""
    first, before = 0, 0.0
    for number, line in enumerate(lines):
        stamp = _SINCE_BOOT.search(line)
        seconds = before if stamp is None else float(stamp[1])
        if _FIRST_WORDS.search(line) or seconds < before - _DISORDER:
            first, before = number, seconds if stamp else 0.0
        else:
            before = max(before, seconds)
    return lines[first:]
