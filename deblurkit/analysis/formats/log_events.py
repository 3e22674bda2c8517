"""What the lines between the steps tell: each kind of event and the signs that it is known by, in any log."""

from __future__ import annotations

import re
from dataclasses import dataclass

PAUSES = frozenset(("validation", "checkpoint", "epoch"))  # take time between two steps
BREAKS = frozenset(("resume", "start", "oom", "killed", "watchdog", "error"))  # their intervals mean nothing
_LONGEST_TEXT = 300
_SEARCHED = 4_096  # bytes at the front of a line
_FRONT = rb"^(?:\[rank\d+\]:? ?)?(?:[\w.]+\.)?"


@dataclass(frozen=True)
class Sign:
    """How a line shows an event.

    Attributes:
        kind: see ``Event.kind``.
        stems: parts of words in lower case, as an expression that is quickly looked for: every line that
            shows the event holds one of them.
        pattern: what such a line must match.
    """

    kind: str
    stems: str
    pattern: re.Pattern[bytes]


def _sign(kind: str, stems: str, pattern: bytes) -> Sign:
    return Sign(kind, stems, re.compile(pattern, re.IGNORECASE))


# In order: the first one that fits speaks. Host memory that runs out ends a process as the kernel would.
SIGNS = (
    _sign("killed", "kill", rb"killed process \d|oom[-_ ]kill|killed by signal|^\W*killed\W*$"),
    _sign(
        "killed",
        "signal|exit",
        rb"exited unexpectedly|signal \d+ \(SIG(?!CHLD|USR|CONT)|death signal|Signals\.SIG"
        rb"|exit ?code\s*:?\s*(?:-\d+|13[4-9]|14\d)\b",
    ),
    _sign("killed", "dump|fault|error", rb"segmentation fault|\bbus error|core dumped"),
    _sign(
        "killed",
        "alloc|memor",
        rb"DefaultCPUAllocator|cannot allocate memory|unable to allocate .{1,80} for an array"
        rb"|" + _FRONT + rb"MemoryError",
    ),
    _sign("oom", "memor|alloc", rb"out of memory|OutOfMemoryError|(?:CUDNN|CUBLAS)_STATUS_ALLOC_FAILED"),
    _sign(
        "watchdog",
        "watchdog|timed out|timing out|timeout|nccl",
        rb"watchdog (?:caught|thread terminated|timeout|got stuck)|detected by watchdog|before timing out"
        rb"|NCCL.{0,80}time[d ]{0,2}out|NCCL operations have failed or timed out"
        rb"|timed out (?:waiting|initializing|after).{0,80}(?:operation|group|rank|client|barrier|store)"
        rb"|socket timeout",
    ),
    _sign(
        "nonfinite",
        r"nan|finite|\binf\b",
        rb"\bloss\b.{0,40}?(?:\bis|\bbecame|=|:)\s*(?:nan|-?inf)\b"
        rb"|\bnan\b.{0,30}\b(?:loss|gradients? (?:in|at|found|detected)|detected|found|encountered)"
        rb"|\b(?:found|detected|encountered)\b.{0,12}\b(?:nan|inf|non-?finite)\b"
        rb"|\b(?:gradients?|weights?|norm|loss)\b.{0,30}\b(?:is|are|became|contains?|to|has)\b.{0,12}"
        rb"(?:\bnan\b|\binf(?:inite)?\b|non-?finite)"
        rb"|returned nan values",
    ),
    _sign(
        "memory-warning", "memor", rb"memory usage is critically high|warning.{0,40}\bmemory\b.{0,40}\d ?%"
    ),
    _sign("error", "error|excep", _FRONT + rb"[a-z]*(?:Error|Exception)\b(?::|$)"),
    _sign("resume", "resum", rb"\bresum(?:ed|ing)\b(?!.{0,3}[=:] ?(?:false|none|null))"),
    _sign(
        "checkpoint",
        "sav",
        rb"\bsav(?:ed?|ing)\b.{0,60}\b(?:checkpoints?|models?|states?|weights?|ckpt)\b"
        rb"|\b(?:checkpoints?|models?|states?|weights?|optimizer)\b.{0,60}(?<!be )\bsaved\b(?! to \S+ by)"
        rb"|\bsav(?:ed|ing)\b.{0,160}\.(?:pth?|ckpt|safetensors)\b",
    ),
    _sign(
        "validation",
        r"alidat|valuat|psnr|\(val|quick l",
        rb"\bvalidati(?:on|ng)\b|\bevaluati(?:on|ng)\b|#\s*psnr|\bpsnr\b\s*[:=]?\s*\d|epoch\(val\)"
        rb"|\bquick look at",
    ),
    _sign(
        "start",
        "training",
        rb"\bstart(?:ing|ed)?\b.{0,12}\btraining\b|\brunning training\b|\btraining started\b",
    ),
    _sign("epoch", "epoch", rb"\bepoch\b\W{0,4}\d"),
)
_STEMS = [re.compile(sign.stems.encode()) for sign in SIGNS]
_ANY_STEM = re.compile("|".join(dict.fromkeys("|".join(sign.stems for sign in SIGNS).split("|"))).encode())
TRACEBACK = b"Traceback (most recent call last)"
_RANK = re.compile(rb"^\[rank\d+\]: ?")
_RAN_FOR = re.compile(rb"ran for (\d{1,15}) milliseconds")


def kind_of(line: bytes) -> str | None:
    """Return the kind of event that a line shows; None for most lines."""
    line = line[:_SEARCHED]
    lowered = line.lower()
    if _ANY_STEM.search(lowered) is None:
        return None
    for sign, stems in zip(SIGNS, _STEMS, strict=True):
        if stems.search(lowered) is not None and sign.pattern.search(line) is not None:
            return sign.kind
    return None


def seconds_of(line: bytes) -> float | None:
    """Return how long what a line tells of took, where it says so: a collective before its time-out."""
    match = _RAN_FOR.search(line)
    return int(match[1]) / 1e3 if match is not None else None


def inside_traceback(line: bytes) -> bool:
    """Return whether a line after ``Traceback`` is not yet the one that names the error."""
    text = _RANK.sub(b"", line)
    return not text.strip() or text[:1] in b" \t" or text.startswith((b"Traceback", b"During handling"))


def event_text(line: bytes) -> str:
    """Return a line as an event keeps it: printable, at most 300 characters."""
    text = line.strip()[: 4 * _LONGEST_TEXT].decode("utf-8", "replace")
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return text[:_LONGEST_TEXT]
