"""Reader of the text timing log: ours, the seed's, and samples pasted from either.

A step is a frame of ``=`` around ``Step n``, rows ``name : 12.00ms ( 3.0%) [avg: 12.00ms]``, and ``Total``.
Names are padded by display columns (ours) or code points (the seed's), which does not matter here: a row is
cut at its last colons. Bytes are cut before they are decoded, and a label is decoded once per log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from deblurkit.analysis.tables import StepRows, TimingLog, is_duration, is_step
from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import UNACCOUNTED, Beside, clean_name
from deblurkit.timing.text_log import BESIDE as BESIDE_THE_STEPS
from deblurkit.units import plural

HEADER = b"# deblurkit timing log "
BESIDE = BESIDE_THE_STEPS.encode()
VERSION = b"1"
_RULE = b"========"
_SUMMARY = b"Timing Summary (Total "
_ELLIPSES = (b"...", "…".encode())
_MOST_LABELS = 50_000
_ROUNDING_MS = 0.006  # a value printed with two decimals is off by 0.005 at most
_TOTAL_ROW = re.compile(rb"^[ \t]*Total[ -]*:\s*\d[\d.]*\s*ms", re.MULTILINE)
_STEP_LINE = re.compile(rb"^[ \t]*Step \d+\s*$", re.MULTILINE)
_BESIDE = re.compile(rb"^([\d.]+) s, (\d{1,15}) times, after step (\d{1,15}): (.+)$")
_SUMMARY_ROW = re.compile(
    rb"^(.*?)\s*:\s*avg=\s*([\d.]+)ms\s+min=\s*([\d.]+)ms\s+max=\s*([\d.]+)ms\s+\(n=(\d{1,15})\)$"
)


def looks_like_text_log(head: bytes) -> bool:
    """Return whether the first bytes of a file, free of colour codes, hold a step, a total or a summary."""
    return (
        head.lstrip().startswith(HEADER)
        or _TOTAL_ROW.search(head) is not None
        or _STEP_LINE.search(head) is not None
        or _SUMMARY in head
        or any(_SUMMARY_ROW.match(line.strip()) for line in head.splitlines() if b"avg=" in line)
    )


def read_text_log(lines: Iterable[bytes], *, source: str) -> TimingLog:
    """Return the steps of a text timing log, or the means of its summary where that is all there is.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if no complete step and no summary row is in it, or the log is of a later version.
    """
    parser = _Parser(source)
    for line in lines:
        parser.feed(line)
    return parser.finish()


class _Parser:
    """The state between two lines: which block is open, and the rows it has so far."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._rows = StepRows()
        self._header: dict[str, str] = {}
        self._values: dict[str, float] = {}
        self._unaccounted = False
        self._step: int | None = None
        self._place = "before"  # any frame; then "inside" one, "after" its total, or in the "summary"
        self._ancestors: list[tuple[int, str]] | None = []  # None: a damaged line hid whose children follow
        self._labels: dict[bytes, tuple[int, str]] = {}
        self._padded: dict[bytes, tuple[int, str]] = {}  # the same, keyed by all bytes before the first colon
        self._means: list[tuple[str, float, int]] = []
        self._summary_steps = 0
        self._beside: list[Beside] = []
        self._saw_unaccounted = False
        self._damaged = self._unfinished = self._elided = 0

    def feed(self, line: bytes) -> None:
        """Take one line in."""
        if line.endswith(b"ms]") and self._take_known_row(line):
            return
        row = _split_row(line)
        if row is not None:
            raw, milliseconds, closes = row
            depth, name = self._label(raw)
            padded = line.partition(b":")[0]
            if padded.rstrip() == raw:
                self._padded[padded] = (depth, name)
            if closes and depth == 0 and name.rstrip(" -") == "Total":
                self._close_step(milliseconds)
            else:
                self._take_row(depth, name, milliseconds)
        elif line.startswith(_RULE):
            self._take_rule()
        elif line.strip():
            self._take_other(line.strip(), line)

    def finish(self) -> TimingLog:
        """Return what was read."""
        self._abandon()
        if not len(self._rows) and not self._means:
            raise DeblurkitError(
                f"{self._source}: no complete step: expected rows `name : 12.00ms` closed by `Total`, or a"
                f" `Timing Summary`; {plural(self._unfinished, 'step')} began and did not end,"
                f" {plural(self._damaged, 'line')} could not be read; let the run finish a step, or check"
                " that the file was copied whole"
            )
        return self._log_of_steps() if len(self._rows) else self._log_of_summary()

    def _take_known_row(self, line: bytes) -> bool:
        """Take a row in whose label was seen before, as nearly all are; return False for any other line."""
        padded, _, rest = line.partition(b":")
        label = self._padded.get(padded)
        milliseconds = _number(rest.partition(b"ms")[0]) if label is not None else None
        if label is None or milliseconds is None:
            return False
        self._take_row(*label, milliseconds)
        return True

    def _take_row(self, depth: int, name: str, milliseconds: float) -> None:
        if self._place in ("after", "summary"):
            return  # times that other parts of a program print between two steps
        path = self._path(depth, name)
        if path is None:
            self._damaged += 1
        elif path == UNACCOUNTED:  # worked out again after the repair
            self._unaccounted = self._saw_unaccounted = True
        else:
            self._values[path] = self._values.get(path, 0.0) + milliseconds

    def _take_rule(self) -> None:
        self._abandon()
        if self._place != "summary":
            self._place = "inside"

    def _take_other(self, stripped: bytes, line: bytes) -> None:
        if stripped.startswith(b"Step ") and stripped[5:].isdigit() and is_step(int(stripped[5:25])):
            self._abandon()
            self._step, self._place = int(stripped[5:25]), "inside"
        elif stripped.startswith(_SUMMARY):
            self._abandon()
            self._ancestors = []
            count = stripped[len(_SUMMARY) :].split(b" ")[0]
            self._summary_steps = int(count) if count.isdigit() and len(count) <= 15 else 0
            self._place = "summary"
        elif (match := _SUMMARY_ROW.match(line)) is not None:
            self._take_summary_row(match)
        elif stripped.startswith(HEADER):
            self._take_header(stripped)
        elif stripped.startswith(BESIDE):
            self._take_beside(stripped[len(BESIDE) :])
        elif stripped in _ELLIPSES:
            self._elided += 1
            self._ancestors = self._ancestors if line.startswith(b" ") else None
        elif self._place == "inside":
            self._damaged += 1
            self._ancestors = None
        elif self._place == "before":
            self._clear()  # prose around a pasted sample: rows above it belong to nothing

    def _take_header(self, line: bytes) -> None:
        version, *pairs = line[len(HEADER) :].decode("utf-8", "replace").split(" | ")
        if version.strip() != VERSION.decode():
            raise DeblurkitError(
                f"{self._source}: a timing log of version {version.strip()[:20]!r}; this deblurkit reads"
                f" version {VERSION.decode()}: update deblurkit"
            )
        for pair in pairs:
            key, _, value = pair.strip().partition(" ")
            self._header[key] = value
        if self._header.get("unit", "ms") != "ms":
            raise DeblurkitError(f"{self._source}: unit {self._header['unit'][:20]!r}; expected ms")

    def _take_beside(self, line: bytes) -> None:
        match = _BESIDE.match(line)
        seconds = _number(match[1]) if match is not None else None
        if match is None or seconds is None:
            self._damaged += 1
        else:
            name = clean_name(match[4].decode("utf-8", "replace"))
            self._beside.append(Beside(name, seconds, int(match[2]), int(match[3])))

    def _take_summary_row(self, match: re.Match[bytes]) -> None:
        if self._place != "summary" and self._place != "before":
            self._place = "summary"  # its title was damaged
        mean = _number(match[2])
        path = self._path(*self._label(match[1]))
        if mean is None or path is None:
            self._damaged += 1
        else:
            self._means.append((path, mean, int(match[5])))

    def _label(self, raw: bytes) -> tuple[int, str]:
        """Return the depth that a label's indent stands for and the name after it."""
        known = self._labels.get(raw)
        if known is None:
            name = raw.lstrip(b" ")
            depth = (len(raw) - len(name)) // 2
            if depth and name.startswith(b"- "):
                name = name[2:]
            else:
                depth = 0
            if len(self._labels) >= _MOST_LABELS:
                self._labels.clear()
                self._padded.clear()
            known = self._labels[raw] = (depth, clean_name(name.decode("utf-8", "replace")))
        return known

    def _path(self, depth: int, name: str) -> str | None:
        """Return the full name of a row, or None where the parent's row cannot be known."""
        if depth == 0:
            self._ancestors = [(0, name)]
            return name
        ancestors = self._ancestors
        if ancestors is None:
            return None
        while ancestors and ancestors[-1][0] >= depth:
            ancestors.pop()
        if not ancestors:
            return None
        path = f"{ancestors[-1][1]}/{name}"
        ancestors.append((depth, path))
        return path

    def _close_step(self, total_ms: float) -> None:
        self._place = "before" if self._place == "before" else "after"
        if not self._values:
            return
        top_ms = sum(value for path, value in self._values.items() if "/" not in path)
        rounding = _ROUNDING_MS * (len(self._values) + 1)
        ours = bool(self._header)
        wall_known = self._unaccounted or (ours and abs(top_ms - total_ms) > rounding)
        step = self._step if self._step is not None else self._rows.last_step + 1
        self._rows.add(step, total_ms, self._values, wall_known=wall_known)
        self._clear()

    def _abandon(self) -> None:
        """Forget an open block that has rows but no total."""
        if self._values:
            self._unfinished += 1
        if self._values or self._ancestors is None:
            self._clear()

    def _clear(self) -> None:
        self._values = {}
        self._unaccounted = False
        self._step = None
        self._ancestors = []

    def _log_of_steps(self) -> TimingLog:
        steps, times = self._rows.frames()
        ours = bool(self._header) or self._saw_unaccounted
        return TimingLog(
            source=self._source,
            format="timing-text" if ours else "timing-text-seed",
            steps=steps,
            times=times,
            num_steps=len(steps),
            samples_per_step=self._samples_per_step(),
            damaged_lines=self._damaged,
            notes=self._notes(),
            beside=tuple(self._beside),
        )

    def _log_of_summary(self) -> TimingLog:
        num_steps = max(self._summary_steps, *(count for _, _, count in self._means), 1)
        rows = StepRows()
        means: dict[str, float] = {}
        for path, mean, count in self._means:
            means[path] = means.get(path, 0.0) + mean * min(count, num_steps) / num_steps
        rows.add(num_steps, float("nan"), means, wall_known=False)
        steps, times = rows.frames()
        only = "Only a summary was found, no steps: medians, stalls and warm-up cannot be known."
        return TimingLog(
            source=self._source,
            format="timing-summary",
            steps=steps,
            times=times,
            num_steps=num_steps,
            samples_per_step=self._samples_per_step(),
            damaged_lines=self._damaged,
            notes=(only, *self._notes()),
        )

    def _samples_per_step(self) -> int | None:
        value = self._header.get("samples_per_step", "")
        return int(value) if value.isdecimal() and len(value) <= 9 and int(value) > 0 else None

    def _notes(self) -> tuple[str, ...]:
        notes = []
        if self._unfinished:
            notes.append(f"{plural(self._unfinished, 'step')} without a total left out (cut off or damaged).")
        if self._elided:
            notes.append(
                f"{plural(self._elided, 'line')} of dots: rows were left out of this log, so its times do not"
                " add up to its own total."
            )
        return tuple(notes)


def _split_row(line: bytes) -> tuple[bytes, float, bool] | None:
    """Return (label, milliseconds, whether nothing follows the value), or None for any other line."""
    head, closes = line.rstrip(), True
    if head.endswith(b"]"):
        head, closes = head.rpartition(b"[avg:")[0].rstrip(), False
    if head.endswith(b"%)"):
        head = head.rpartition(b"(")[0].rstrip()
    if not head.endswith(b"ms"):
        return None
    label, colon, value = head[:-2].rpartition(b":")
    label = label.rstrip()
    milliseconds = _number(value) if colon and label else None
    return None if milliseconds is None else (label, milliseconds, closes)


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if is_duration(value) else None
