"""Files to logs: which format a file has is told by its content, never by its name.

Packed with gzip or not, a file or standard input: all are streams that are read once.
"""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from deblurkit.analysis.formats import (
    basicsr,
    deepspeed,
    hf_trainer,
    kair,
    lightning_simple,
    mmengine,
    s_sdm,
    spkdeblurnet,
    tensorboard_events,
    timestamps_only,
    torch_trace,
    tqdm_bar,
    training_log,
)
from deblurkit.analysis.formats.log_format import LogFormat
from deblurkit.analysis.formats.timing_jsonl import looks_like_json_lines, read_json_lines
from deblurkit.analysis.formats.timing_text import looks_like_text_log, read_text_log
from deblurkit.analysis.lines import CleanLines, clean_head
from deblurkit.analysis.streams import Replayed, Unpacked, is_gzip
from deblurkit.analysis.tables import RunLog
from deblurkit.errors import DeblurkitError

STANDARD_INPUT = "-"
_HEAD_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 18
_PATTERNS = (
    "logs/timing_*.jsonl",
    "logs/timing_*.log",
    "*/logs/timing_*.jsonl",
    "*/logs/timing_*.log",
    "*.jsonl",
    "*.log",
    "*.txt",
)
_TRAINING_LOG = "train_*.log"
_PACKED = {b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


FORMATS = (
    tensorboard_events.FORMAT,
    LogFormat("deblurkit timing JSON lines", looks_like_json_lines, read_json_lines),
    LogFormat("timing text of deblurkit or of the scripts before it", looks_like_text_log, read_text_log),
    torch_trace.FORMAT,
    lightning_simple.FORMAT,
    deepspeed.FORMAT,
    basicsr.FORMAT,
    spkdeblurnet.FORMAT,
    kair.FORMAT,
    s_sdm.FORMAT,
    mmengine.FORMAT,
    training_log.FORMAT,
    hf_trainer.FORMAT,
    tqdm_bar.FORMAT,
    timestamps_only.FORMAT,
)


def read_all(paths: Iterable[Path]) -> list[RunLog]:
    """Return the logs in ``paths``, in their order; ``-`` is standard input.

    Raises:
        DeblurkitError: as `read_log` does, or if standard input is named twice.
    """
    paths = list(paths)
    if sum(str(path) == STANDARD_INPUT for path in paths) > 1:
        raise DeblurkitError("- (standard input) was given twice; it can be read once only")
    return [read_log(path) for path in paths]


def read_log(path: Path) -> RunLog:
    """Return the log in ``path``, read as a stream; ``-`` is standard input.

    Raises:
        DeblurkitError: if the file is missing, a folder, unreadable, empty, of no known format, or holds
            nothing that its format promises.
    """
    if str(path) == STANDARD_INPUT:
        if sys.stdin is None:
            raise DeblurkitError("- (standard input) is closed; expected a log on it, or name a file")
        return read_stream(sys.stdin.buffer, source="standard input")
    if path.is_dir():
        raise DeblurkitError(f"{path} is a folder; expected a log file{_pattern_in(path)}")
    try:
        with path.open("rb") as file:
            return read_stream(file, source=str(path))
    except FileNotFoundError:
        raise DeblurkitError(f"{path}: no such file; expected a log") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the name
        raise DeblurkitError(f"{path}: cannot be read: {error}") from error


def read_stream(file: BinaryIO, *, source: str) -> RunLog:
    """Return the log that ``file`` holds from where it stands to its end; it need not be seekable.

    Args:
        file: bytes, packed with gzip or not. Of a gzip stream that is cut off or damaged, what comes before
            is read, and the log's notes say so.
        source: what errors and reports call it.

    Raises:
        DeblurkitError: if it is empty, of no known format, or holds nothing that its format promises.
    """
    magic = file.read(2)
    stream: io.RawIOBase = Replayed(magic, file)
    unpacked = Unpacked(io.BufferedReader(stream)) if is_gzip(magic) else None
    try:
        log = _read(io.BufferedReader(unpacked or stream, _BUFFER_BYTES), source=source)
    except DeblurkitError as error:
        raise DeblurkitError(f"{error}{_about_gzip(unpacked, ' (the gzip file {})')}") from error
    note = _about_gzip(unpacked, "The gzip file {}: what comes before that place was read.")
    return dataclasses.replace(log, notes=(*log.notes, note)) if note else log


def _read(stream: BinaryIO, *, source: str) -> RunLog:
    form, whole = _recognised(stream, source=source)
    return form.read(whole if form.is_binary else CleanLines(whole), source=source)


def _recognised(stream: BinaryIO, *, source: str) -> tuple[LogFormat, BinaryIO]:
    """Return the format of a stream, and the stream as it was before its first bytes were looked at."""
    head = stream.read(_HEAD_BYTES)
    if not clean_head(head).strip():
        raise DeblurkitError(f"{source}: the file is empty; expected a log")
    form = _format_of(head)
    if form is None:
        raise DeblurkitError(f"{source}: {_nobody_knows(head)}")
    return form, io.BufferedReader(Replayed(head, stream), _BUFFER_BYTES)


def _format_of(head: bytes) -> LogFormat | None:
    """Return the first format that recognises the first bytes of a file; None where nobody does."""
    text_head = clean_head(head)
    for form in FORMATS:
        if form.recognises(head if form.is_binary else text_head):
            return form
    return None


def _nobody_knows(head: bytes) -> str:
    """Return what is to say about a file of no known format."""
    for magic, name in _PACKED.items():
        if head.startswith(magic):
            return f"packed with {name}; expected gzip or nothing: unpack it first"
    tried = "; ".join(form.name for form in FORMATS)
    return f"not a log that is known here; tried: {tried}"


def _about_gzip(unpacked: Unpacked | None, sentence: str) -> str:
    return sentence.format(unpacked.damage) if unpacked is not None and unpacked.damage else ""


def logs_of_run(folder: Path) -> list[Path]:
    """Return the logs in a run's folder, or in its ``logs``: times first, then ``train_*.log`` beside them.

    Times are read from JSON lines, or from text where there are none. Those in which no step was finished, as
    a run leaves that was resumed at its end, are left out.

    Raises:
        DeblurkitError: if it holds no timing log, with a pattern of those that lie below it.
    """
    for ending in ("jsonl", "log"):
        for place in (folder / "logs", folder):
            if found := sorted(place.glob(f"timing_*.{ending}")):
                return with_steps(found) + _training_logs(place)
    raise DeblurkitError(
        f"{folder} is a folder without timing logs; expected a run's, with logs/timing_*.jsonl in it"
        + _pattern_in(folder)
    )


def with_steps(paths: list[Path]) -> list[Path]:
    """Return the paths without timing logs in which no step was finished, as long as any other is left.

    A run that was resumed at its end leaves such a log.
    """
    return [path for path in paths if not path.name.startswith("timing_") or _has_a_step(path)] or paths


def _training_logs(folder: Path) -> list[Path]:
    """Return those of a folder that say something; one of a run that ended at once does not."""
    return sorted(path for path in folder.glob(_TRAINING_LOG) if _format_of(_head_of(path)) is not None)


def _has_a_step(path: Path) -> bool:
    try:
        head = _head_of(path)
    except OSError:
        return True  # who reads it says why it cannot be read
    return is_gzip(head) or b"\n[" in head or b"\nStep " in head


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _pattern_in(folder: Path) -> str:
    """Return advice with the first pattern that matches logs in or below ``folder``, or nothing."""
    for pattern in _PATTERNS:
        if next(folder.glob(pattern), None) is not None:
            return f": try '{folder}/{pattern}'"
    return ""
