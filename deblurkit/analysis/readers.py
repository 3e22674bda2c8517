"""Files to timing logs: which format a file has is told by its content, never by its name."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from deblurkit.analysis.tables import TimingLog
from deblurkit.analysis.timing_jsonl import looks_like_json_lines, read_json_lines
from deblurkit.analysis.timing_text import looks_like_text_log, read_text_log
from deblurkit.errors import DeblurkitError

_HEAD_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18
_LONGEST_LINE = 1 << 22
_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_PATTERNS = (
    "logs/timing_*.jsonl",
    "logs/timing_*.log",
    "*/logs/timing_*.jsonl",
    "*/logs/timing_*.log",
    "*.jsonl",
    "*.log",
    "*.txt",
)
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class LogFormat:
    """A format: what to call it, how to tell it by the first bytes, how to read it."""

    name: str
    recognises: Callable[[bytes], bool]
    read: Callable[..., TimingLog]


FORMATS = (
    LogFormat("deblurkit timing JSON lines", looks_like_json_lines, read_json_lines),
    LogFormat("timing text of deblurkit or of the scripts before it", looks_like_text_log, read_text_log),
)


def read_log(path: Path) -> TimingLog:
    """Return the timing log in ``path``, read as a stream.

    Raises:
        DeblurkitError: if the file is missing, a folder, unreadable, empty, of no known format, or holds no
            complete step.
    """
    if path.is_dir():
        raise DeblurkitError(f"{path} is a folder; expected a log file{_pattern_in(path)}")
    try:
        with path.open("rb") as file:
            return _read_stream(file, source=str(path))
    except FileNotFoundError:
        raise DeblurkitError(f"{path}: no such file; expected a timing log") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the name
        raise DeblurkitError(f"{path}: cannot be read: {error}") from error


def logs_of_run(folder: Path) -> list[Path]:
    """Return the timing logs in a run's folder, or in its ``logs``: JSON lines, or text where there are none.

    Those in which no step was finished, as a run leaves that was resumed at its end, are left out.

    Raises:
        DeblurkitError: if it holds none, with a pattern of those that lie below it.
    """
    for ending in ("jsonl", "log"):
        for place in (folder / "logs", folder):
            if found := sorted(place.glob(f"timing_*.{ending}")):
                return [path for path in found if _has_a_step(path)] or found
    raise DeblurkitError(
        f"{folder} is a folder without timing logs; expected a run's, with logs/timing_*.jsonl in it"
        + _pattern_in(folder)
    )


def _has_a_step(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return b"\n[" in head or b"\nStep " in head


def _pattern_in(folder: Path) -> str:
    """Return advice with the first pattern that matches logs in or below ``folder``, or nothing."""
    for pattern in _PATTERNS:
        if next(folder.glob(pattern), None) is not None:
            return f": try '{folder}/{pattern}'"
    return ""


def _read_stream(file: BinaryIO, *, source: str) -> TimingLog:
    lines = clean_lines(file)
    head: list[bytes] = []
    size = 0
    for line in lines:
        head.append(line)
        size += len(line) + 1
        if size >= _HEAD_BYTES:
            break
    start = b"\n".join(head)
    if not start.strip():
        raise DeblurkitError(f"{source}: the file is empty; expected a timing log")
    for form in FORMATS:
        if form.recognises(start):
            return form.read(itertools.chain(head, lines), source=source)
    tried = "; ".join(form.name for form in FORMATS)
    raise DeblurkitError(f"{source}: not a log that is known here; tried: {tried}")


def clean_lines(file: BinaryIO) -> Iterator[bytes]:
    r"""Yield lines without ends, byte-order mark, colour codes and NUL bytes; ``\r`` ends one too."""
    rest = file.read(len(_BOM)).removeprefix(_BOM)
    while chunk := file.read(_CHUNK_BYTES):
        chunk = rest + chunk
        end = chunk.rfind(b"\n") + 1 or (len(chunk) if len(chunk) > _LONGEST_LINE else 0)
        chunk, rest = chunk[:end], chunk[end:]
        yield from _clean(chunk).split(b"\n")
    yield from _clean(rest).split(b"\n")


def _clean(chunk: bytes) -> bytes:
    if b"\0" in chunk:
        chunk = chunk.replace(b"\0", b"")
    if b"\x1b" in chunk:
        chunk = _ESCAPES.sub(b"", chunk)
    return chunk.replace(b"\r", b"\n") if b"\r" in chunk else chunk
