"""The events of a profiler's trace, one after the other, in memory that does not grow with the file.

A trace is one JSON object whose member ``traceEvents`` holds nearly all of it, or that list alone. Kineto
writes the members of an event in a fixed order, so a pattern finds the few that count here and the rest is
not decoded; a window with events in any other order is decoded as a whole. What cannot be decoded is left
out, up to the next event.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, TypeAlias

from deblurkit.analysis.trace_window import TextWindow, decode

# (category, name, process, thread, start, duration, correlation): microseconds; -1 is no correlation.
TraceEvent: TypeAlias = tuple[str, str, str, str, float, float, int]

MEMBERS = frozenset(("distributedInfo", "baseTimeNanoseconds", "schemaVersion"))
_BLANK = re.compile(r"[\s,]*")
_CLOSING = re.compile(r"[\s}\]]*")
_COLON = re.compile(r"[\s:]*")
_LIST = re.compile(r'"traceEvents"\s*:\s*\[')
_START = re.compile(r'\{\s*"(?:ph|cat|name|pid|ts)"\s*:')
_LABEL = r'(-?\d+|"[^"]*"),\s*'
_NUMBER = r'"?(-?[\d.]+)"?'
_KINETO = re.compile(  # what follows the key "ph"; flows, marks and names of threads have no duration
    r': ?"(?:[stfMi]"|X", ?"cat": ?"([^"]*)",\s*"name": ?"([^"]*)", ?'
    rf'"pid": ?{_LABEL}"tid": ?{_LABEL}"ts": ?{_NUMBER}, ?"dur": ?{_NUMBER}\s*[,}}])'
)
_CORRELATION = re.compile(r'"correlation": ?"?(\d{1,18})')
_UNLINKED = frozenset(("cpu_op", "Operator", "user_annotation", "python_function"))
_LARGEST = 10.0**18


class TraceStream:
    """A trace that is read once, from its beginning to its end.

    Attributes:
        members: some of what the file holds beside its events (`MEMBERS`): what lies before them at once,
            what lies behind them when all events have been taken.
        damaged: events, or what stood in their place, that could not be understood.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.members: dict[str, Any] = {}
        self.damaged = 0
        self._window = TextWindow(file)
        self._open: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        self._doubtful = False
        self._inside = self._enter()

    @property
    def why_cut(self) -> str | None:
        """Why the file ends before its events do; None where they are complete."""
        if self._window.broken is not None:
            return self._window.broken
        return "it ends amid the events" if self._inside else None

    def events(self) -> Iterator[list[TraceEvent]]:
        """Yield what has a duration, in the order of the file, a window at a time; nothing without a list."""
        window = self._window
        while self._inside and not window.exhausted:
            last = window.text.rfind("{", window.at, max(0, window.text.rfind('"ph"', window.at)))
            quick = _in_kineto_order(window.text[window.at : last]) if last > window.at else None
            if quick is not None:
                self._settle()
                yield quick
                window.at = last
            if quick is None or not window.fill():
                end = last if last > window.at else len(window.text)
                yield list(self._decoded(window.offset + end))
        self.damaged += sum(map(len, self._open.values()))

    def _enter(self) -> bool:
        """Go to the first event; return whether there is a list of them."""
        window = self._window
        first = window.skip(_BLANK)
        if first in ("[", "{"):
            window.at += 1
        if first == "[" or (first == "{" and self._read_members()):
            return True
        found = window.find(_LIST)
        window.at = found.end() if found else window.at
        return found is not None

    def _read_members(self) -> bool:
        """Take the members up to the list of events; return whether there is one."""
        window = self._window
        while window.skip(_BLANK) == '"':
            try:
                key = window.value()
                if window.skip(_COLON) == "[" and key == "traceEvents":
                    window.at += 1
                    return True
                value = window.value()
            except ValueError:
                return False
            if key in MEMBERS:
                self.members[key] = value
        return False

    def _decoded(self, end: int) -> Iterator[TraceEvent]:
        """Yield the events up to the place ``end`` of the file, or to the end of the list."""
        window = self._window
        while self._inside and window.offset + window.at < end:
            first = window.skip(_BLANK)
            if first == "]":
                self._leave()
            elif first and (event := self._take_event()) is not None:
                yield event

    def _take_event(self) -> TraceEvent | None:
        window = self._window
        try:
            found = window.value()
        except ValueError:
            window.at += 1
            window.find(_START)
            found = None
        if not isinstance(found, dict) or "ph" not in found:
            self._doubtful = self._doubtful or not isinstance(found, dict)
            return None
        self._settle()
        try:
            return self._event(found)
        except ValueError:
            self.damaged += 1
            return None

    def _settle(self) -> None:
        """Count what could not be understood before an event: the file was not just cut off there."""
        self.damaged += self._doubtful
        self._doubtful = False

    def _leave(self) -> None:
        """Take the bracket behind the last event, and the members after it; stay if more events follow."""
        window = self._window
        window.at += 1
        self._read_members()
        if window.skip(_CLOSING) and window.find(_START):
            self._doubtful = True
            return
        self._inside = False
        self._settle()

    def _event(self, found: Mapping[str, Any]) -> TraceEvent | None:
        """Return what an object describes; None if it has no duration, or is the first of a pair.

        Raises:
            ValueError: if it has no time, or no beginning.
        """
        phase = found["ph"]
        if phase == "X":
            return _as_event(found, found.get("dur"))
        if phase not in ("B", "E"):
            return None
        stack = self._open.setdefault((str(found.get("pid")), str(found.get("tid"))), [])
        if phase == "B":
            stack.append(found)
            return None
        if not stack:
            raise ValueError("an end without a beginning")
        start = stack.pop()
        return _as_event(start, _number(found.get("ts")) - _number(start.get("ts")))


def _in_kineto_order(text: str) -> list[TraceEvent] | None:
    """Return the events in a text of whole ones; None if one of them is not as Kineto writes it."""
    try:
        return list(_quick(text.split('"ph"')[1:]))
    except (ValueError, RecursionError):
        return None


def _quick(pieces: Iterable[str]) -> Iterator[TraceEvent]:
    """Yield the events that stand behind keys ``ph``; ValueError if one is not as Kineto writes it."""
    for piece in pieces:
        head = _KINETO.match(piece)
        if head is None or "\\" in head[0]:
            yield _odd_one(piece)
            continue
        category, name, process, thread, start, length = head.groups()
        if category is None:
            continue
        link = None if category in _UNLINKED else _CORRELATION.search(piece, head.end())
        begin, duration = float(start), float(length)
        if not (0 <= duration < _LARGEST and -_LARGEST < begin < _LARGEST):
            raise ValueError("no time")
        correlation = int(link[1]) if link is not None else -1
        yield category, name, process, thread, begin, duration, correlation


def _odd_one(piece: str) -> TraceEvent:
    """Return the event behind the key ``ph``; ValueError if it is not a whole one with a duration."""
    found, _ = decode('{"ph"' + piece)
    if found["ph"] != "X" or not {"cat", "name"} <= found.keys():
        raise ValueError("no event, or one with members before its phase")
    return _as_event(found, found.get("dur"))


def _as_event(found: Mapping[str, Any], duration: object) -> TraceEvent:
    start, length = _number(found.get("ts")), _number(duration)
    if not (abs(start) < _LARGEST and 0 <= length < _LARGEST):
        raise ValueError("no time")
    arguments = found.get("args")
    link = _number(arguments.get("correlation")) if isinstance(arguments, dict) else math.nan
    return (
        str(found.get("cat", "")),
        str(found.get("name", "")),
        _label(found.get("pid")),
        _label(found.get("tid")),
        start,
        length,
        int(link) if 0 <= link < _LARGEST else -1,
    )


def _label(value: object) -> str:
    """Return the identity of a process or thread as it stands in the file."""
    return json.dumps(value) if isinstance(value, str) else str(value)


def _number(value: object) -> float:
    """Return a number, also one that is written as text; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
