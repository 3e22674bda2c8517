"""Reader of the text timing log: ours, the seed's, and samples pasted from either.

A step is a frame of ``=`` around ``Step n``, rows ``name : 12.00ms ( 3.0%) [avg: 12.00ms]``, and ``Total``.
Names are padded by display columns (ours) or code points (the seed's), which does not matter here: a row is
cut at its last colons. Bytes are cut before they are decoded, and a label is decoded once per log.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from deblurkit.analysis.formats.label_table import Label
from deblurkit.analysis.formats.log_figures import Figure, figures_of
from deblurkit.analysis.formats.memory_notes import frames_of
from deblurkit.analysis.formats.timing_blocks import BlockFinder, Blocks
from deblurkit.analysis.lines import chunks_of
from deblurkit.analysis.tables import RunLog, StepRows, is_duration, is_step
from deblurkit.errors import DeblurkitError
from deblurkit.timing.records import UNACCOUNTED, Beside, clean_name
from deblurkit.timing.text_log import BESIDE as BESIDE_THE_STEPS
from deblurkit.units import plural

HEADER = b"# deblurkit timing log "
BESIDE = BESIDE_THE_STEPS.encode()
VERSION = b"1"
_RULE = b"========"
_STEP_FRAME = b"\n" + b"=" * 80 + b"\nStep "
_SUMMARY = b"Timing Summary (Total "
_ELLIPSES = (b"...", "…".encode())
_MOST_LABELS = 50_000
_ROUNDING_MS = 0.006  # a value printed with two decimals is off by 0.005 at most
_TOTAL_ROW = re.compile(rb"^[ \t]*Total[ -]*:\s*\d[\d.]*\s*ms", re.MULTILINE)
_MEMORY = b"Memory - Process: "
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
        or (b"avg=" in head and any(_SUMMARY_ROW.match(line.strip()) for line in head.splitlines()))
    )


def read_text_log(lines: Iterable[bytes], *, source: str) -> RunLog:
    """Return the steps of a text timing log, or the means of its summary where that is all there is.

    Args:
        lines: clean lines without their ends.
        source: what errors and the report call the log.

    Raises:
        DeblurkitError: if no complete step and no summary row is in it, or the log is of a later version.
    """
    parser = _Parser(source)
    rest = b""
    for chunk in chunks_of(lines):
        text = rest + chunk
        end = text.rfind(_STEP_FRAME) + 1 or len(text)  # the newest step may go on in the next chunk
        rest, text = text[end:], text[:end]
        parser.feed(text)
    parser.feed(rest)
    return parser.finish()


class _Parser:
    """The state between two lines: which block is open, and the rows it has so far."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._rows = StepRows()
        self._finder = BlockFinder(self._label)
        self._header: dict[str, str] = {}
        self._values: dict[str, float] = {}
        self._unaccounted = False
        self._step: int | None = None
        self._place = "before"  # any frame; then "inside" one, "after" its total, or in the "summary"
        self._ancestors: list[Label] = []  # of the next row; one without a name stands for a damaged line
        self._labels: dict[bytes, Label] = {}
        self._means: list[tuple[str, float, int]] = []
        self._summary_steps = 0
        self._beside: list[Beside] = []
        self._looks: list[Figure] = []  # at memory
        self._saw_unaccounted = False
        self._damaged = self._unfinished = self._elided = 0

    def feed(self, text: bytes) -> None:
        """Take whole lines in: steps as they should be at once, all else line by line."""
        done = 0
        for blocks in self._finder.find(text):
            self._feed_lines(text[done : blocks.start])
            self._take_blocks(blocks)
            done = blocks.end
        self._feed_lines(text[done:])

    def _take_blocks(self, blocks: Blocks) -> None:
        self._abandon()
        self._clear()
        self._place = "after"
        paths, times = blocks.table()
        names = np.array([self._finder.paths[path] for path in paths], dtype=object)
        is_gap, is_top = names == UNACCOUNTED, np.array(["/" not in name for name in names])
        measured = ~np.isnan(times)
        has_gap, num_rows = measured[is_gap].any(axis=0), measured[~is_gap].sum(axis=0)
        top_ms = np.nansum(times[is_top & ~is_gap], axis=0)
        wall_known = has_gap | self._leaves_time(top_ms - blocks.total_ms, num_rows)
        self._saw_unaccounted |= bool(has_gap.any())
        taken = num_rows > 0
        self._rows.add_many(
            blocks.numbers[taken],
            blocks.total_ms[taken],
            dict(zip(names[~is_gap].tolist(), times[~is_gap][:, taken], strict=True)),
            wall_known=wall_known[taken],
        )

    def _feed_lines(self, text: bytes) -> None:
        for line in text.split(b"\n"):
            if line:
                self._feed_line(line)

    def _feed_line(self, line: bytes) -> None:
        row = _split_row(line)
        if row is not None:
            raw, milliseconds, closes = row
            label = self._label(raw)
            if closes and label.is_total:
                self._close_step(milliseconds)
            else:
                self._take_row(label, milliseconds)
        elif line.startswith(_RULE):
            self._take_rule()
        elif line.strip():
            self._take_other(line.strip(), line)

    def finish(self) -> RunLog:
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

    def _take_row(self, label: Label, milliseconds: float) -> None:
        if self._place in ("after", "summary"):
            return  # times that other parts of a program print between two steps
        path = self._path(label)
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
        elif _MEMORY in stripped:
            self._looks += figures_of(stripped)
        elif stripped in _ELLIPSES:
            self._elided += 1
            if not line.startswith(b" "):
                self._ancestors = []
        elif self._place == "inside":
            self._damaged += 1
            self._hide(_depth(line))
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
        path = self._path(self._label(match[1]))
        if mean is None or path is None:
            self._damaged += 1
        else:
            self._means.append((path, mean, int(match[5])))

    def _label(self, raw: bytes) -> Label:
        """Return what the bytes before a colon, without the padding, stand for."""
        known = self._labels.get(raw)
        if known is None:
            depth = _depth(raw)
            name = raw.lstrip(b" ")[2 if depth else 0 :]
            if len(self._labels) >= _MOST_LABELS:
                self._labels.clear()
            known = self._labels[raw] = Label(depth, clean_name(name.decode("utf-8", "replace")))
        return known

    def _path(self, label: Label) -> str | None:
        """Return the full name of a row, or None where the parent's row cannot be known."""
        if label.depth == 0:
            self._ancestors = [label]
            return label.name
        self._leave(label.depth)
        if not self._ancestors or not self._ancestors[-1].name:
            return None
        path = f"{self._ancestors[-1].name}/{label.name}"
        self._ancestors.append(Label(label.depth, path))
        return path

    def _hide(self, depth: int) -> None:
        """Take note of a row that cannot be read: those inside it are nobody's."""
        self._leave(depth)
        if depth:
            self._ancestors.append(Label(depth, ""))

    def _leave(self, depth: int) -> None:
        """Forget the rows that one of this depth cannot lie inside."""
        while self._ancestors and self._ancestors[-1].depth >= depth:
            self._ancestors.pop()

    def _close_step(self, total_ms: float) -> None:
        self._place = "before" if self._place == "before" else "after"
        if self._values:
            top_ms = sum(value for path, value in self._values.items() if "/" not in path)
            leaves_time = self._leaves_time(top_ms - total_ms, len(self._values))
            step = self._step if self._step is not None else self._rows.last_step + 1
            self._rows.add(step, total_ms, self._values, wall_known=self._unaccounted or bool(leaves_time))
        self._clear()

    def _leaves_time(self, gap_ms: Any, num_rows: Any) -> Any:
        """Return whether the total of our own log, which is its wall time, is not the sum of its rows."""
        return bool(self._header) & (abs(gap_ms) > _ROUNDING_MS * (num_rows + 1))

    def _abandon(self) -> None:
        """Forget an open block that has rows but no total."""
        self._ancestors = []
        if self._values:
            self._unfinished += 1
            self._clear()

    def _clear(self) -> None:
        self._values = {}
        self._unaccounted = False
        self._step = None
        self._ancestors = []

    def _log_of_steps(self) -> RunLog:
        steps, times = self._rows.frames()
        ours = bool(self._header) or self._saw_unaccounted
        rank, world_size = self._ranks()
        return RunLog(
            source=self._source,
            format="timing-text" if ours else "timing-text-seed",
            steps=steps,
            times=times,
            num_steps=len(steps),
            samples_per_step=self._samples_per_step(),
            damaged_lines=self._damaged,
            notes=self._notes(),
            rank=rank,
            beside=tuple(self._beside),
            world_size=world_size,
            scalars=frames_of((figure, math.nan) for figure in self._looks),
        )

    def _log_of_summary(self) -> RunLog:
        num_steps = max(self._summary_steps, *(count for _, _, count in self._means), 1)
        rows = StepRows()
        means: dict[str, float] = {}
        for path, mean, count in self._means:
            means[path] = means.get(path, 0.0) + mean * min(count, num_steps) / num_steps
        rows.add(num_steps, float("nan"), means, wall_known=False)
        steps, times = rows.frames()
        only = "Only a summary was found, no steps: medians, stalls and warm-up cannot be known."
        return RunLog(
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
        return _count(self._header.get("samples_per_step", "")) or None

    def _ranks(self) -> tuple[int | None, int | None]:
        """Return the rank that wrote the log and the number of ranks, as far as the header tells."""
        rank, _, ranks = self._header.get("rank", "").partition(" of ")
        return _count(rank), _count(ranks) or None

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


def _depth(line: bytes) -> int:
    """Return how deep a row is indented; 0 for one that is not marked as part of another."""
    name = line.lstrip(b" ")
    return (len(line) - len(name)) // 2 if name.startswith(b"- ") else 0


def _count(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= 9 else None


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if is_duration(value) else None
