"""A trace of chosen steps for chrome://tracing and ui.perfetto.dev, written as the run goes on.

The form is the JSON array of Google's "Trace Event Format": both viewers take an array that does not end, so
the file of a run that was killed opens as well.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TraceSpan:
    """A named interval of one thread.

    Attributes:
        thread: its identity, as Python gives it.
        name: full name.
        start_us, end_us: microseconds since the first traced step began.
    """

    thread: int
    name: str
    start_us: float
    end_us: float


class TraceLog:
    """Appends the spans of steps; a lane for each thread, and further ones where spans only partly overlap.

    Names stay as they are, in any script. ``pid`` is the rank.
    """

    def __init__(self, path: Path, *, rank: int, clock: str) -> None:
        self.path = path
        self._rank = rank
        self._clock = clock
        self._file = path.open("w", encoding="utf-8")
        self._lanes: dict[tuple[int, int], int] = {}
        self._separator = "[\n"
        self._write({"ph": "M", "name": "process_name", "args": {"name": f"rank {rank}, {clock} clock"}})
        self._file.flush()

    def write_step(self, step: int, spans: Iterable[TraceSpan], *, start_us: float, end_us: float) -> None:
        """Append the spans of one step and the step itself, and see that they reach the disk."""
        self._write_span(f"step {step}", "step", self._lane(0, 0), start_us, end_us)
        threads: dict[int, list[TraceSpan]] = {}
        for span in spans:
            threads.setdefault(span.thread, []).append(span)
        for thread, own in threads.items():
            for span, level in nested(own):
                tid = self._lane(thread, level)
                self._write_span(span.name, str(step), tid, span.start_us, span.end_us)
        self._file.flush()

    def abandon(self) -> None:
        """Close the file as it is."""
        with contextlib.suppress(OSError):
            self._file.close()

    def close(self) -> None:
        """End the array and close the file; closing twice does no harm."""
        if not self._file.closed:
            self._file.write("\n]\n")
            self._file.close()

    def _lane(self, thread: int, level: int) -> int:
        """Return the number of a thread's lane, announcing it the first time; thread 0 is the steps' own."""
        known = self._lanes.get((thread, level))
        if known is None:
            known = self._lanes[thread, level] = len(self._lanes)
            name = "steps" if thread == 0 else _thread_name(thread) + (f" ({level + 1})" if level else "")
            self._write({"ph": "M", "name": "thread_name", "tid": known, "args": {"name": name}})
        return known

    def _write_span(self, name: str, category: str, tid: int, start_us: float, end_us: float) -> None:
        times = {"ts": round(start_us, 3), "dur": round(max(0.0, end_us - start_us), 3)}
        self._write({"ph": "X", "name": name, "cat": category, "tid": tid, **times})

    def _write(self, event: dict[str, object]) -> None:
        text = json.dumps({"pid": self._rank, **event}, ensure_ascii=False, separators=(",", ":"))
        self._file.write(self._separator + text)
        self._separator = ",\n"


def nested(spans: Iterable[TraceSpan]) -> Iterator[tuple[TraceSpan, int]]:
    """Yield (span, lane) such that the spans of one lane lie inside one another or follow one another."""
    lanes: list[list[float]] = []  # ends of the spans that are open in each
    for span in sorted(spans, key=lambda span: (span.start_us, -span.end_us)):
        for number, ends in enumerate(lanes):
            while ends and ends[-1] <= span.start_us:
                ends.pop()
            if not ends or span.end_us <= ends[-1]:
                ends.append(span.end_us)
                yield span, number
                break
        else:
            lanes.append([span.end_us])
            yield span, len(lanes) - 1


def _thread_name(thread: int) -> str:
    names = {other.ident: other.name for other in threading.enumerate()}
    return names.get(thread, f"thread {thread}")
