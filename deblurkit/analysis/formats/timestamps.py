"""Wall-clock stamps of log lines as seconds since 1970, in whatever way a log writes them."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone

_CLOCK = rb"(?P<hour>\d\d):(?P<rest>\d\d:\d\d(?:[.,]\d{1,9})?)(?P<zone>Z\b|[+-]\d\d:?\d\d\b)?"
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_DATES = (
    rb"(?P<year>(?:19|20)\d\d)[-/.](?P<month>\d\d)[-/.](?P<day>\d\d)[ T]",  # 2024-01-31, 2024/01/31
    rb"(?P<month>\d\d)/(?P<day>\d\d)/(?P<year>(?:19|20)\d\d) ",  # 01/31/2024
    rb"(?P<short_year>\d\d)-(?P<month>\d\d)-(?P<day>\d\d) ",  # 24-01-31
    rb"(?P<month>\d\d)[-/](?P<day>\d\d) ",  # 01/31, the year left out
    rb"\b[EIWF](?P<month>\d{1,2}?)(?P<day>\d\d) ",  # glog's E0131, torch's E131
    rb"\b(?P<month_name>" + b"|".join(_MONTHS) + rb") {1,2}(?P<day>\d{1,2}) (?:(?P<year>(?:19|20)\d\d) )?",
    rb"^\W{0,2}",  # the time of day alone, where nothing else can be meant
)
_LAYOUTS = tuple(re.compile(rb"(?<![\d/-])" + date + _CLOCK) for date in _DATES)
_ANY_CLOCK = re.compile(rb"\d\d:\d\d:\d\d")
_YEAR_AFTER = re.compile(rb" ((?:19|20)\d\d)\b")  # Sat Nov 21 20:07:43 2026
_UNIX = re.compile(rb"^\W?(1\d{9}(?:\.\d{1,9})?)\b")
_ANY_YEAR = 2000  # a leap year, so that 29 February is a day
_DAY = 86_400.0
_SEARCHED = 96  # a stamp stands at the front of its line, behind a tag at most


class Stamps:
    """Reads the stamps of one log, line after line; the layout of the last one is tried first.

    A stamp without a zone is of this machine's zone. One without a year is of the year 2000, one without a
    date of 1 January 2000: differences are right, and New Year and midnight are seen to pass.
    """

    def __init__(self) -> None:
        self._hour = b"\0"  # the last stamp up to its hour, where it stood, and when that hour began
        self._hour_start = self._rest_start = self._rest_end = 0
        self._hour_began = math.nan
        self._shift = 0.0
        self._newest_raw = -math.inf
        self.fractions_seen = False
        self.lacks_date = False

    def find(self, line: bytes) -> float:
        """Return the first stamp near the front of ``line`` in seconds since 1970; NaN without one."""
        if line.startswith(self._hour, self._hour_start):
            rest = line[self._rest_start : self._rest_end]
            try:
                return self._hour_began + 60 * int(rest[:2]) + float(rest[3:].replace(b",", b"."))
            except ValueError:
                pass  # a damaged stamp, or one of another length
        return self._search(line[:_SEARCHED])

    def find_before(self, line: bytes, at: int) -> float:
        """Return the stamp of what begins at ``at``: another line or a bar may be glued before it."""
        return self.find(line) if at <= _SEARCHED else self._search(line[max(0, at - _SEARCHED) : at])

    def _search(self, head: bytes) -> float:
        if _ANY_CLOCK.search(head) is None:
            return self._unix(head)
        for layout in _LAYOUTS:
            if (match := layout.search(head)) is not None:
                began = self._hour_of(match, head)
                if not math.isnan(began):
                    return self._remember(match, began)
        return math.nan

    def _unix(self, head: bytes) -> float:
        match = _UNIX.match(head)
        self.fractions_seen |= match is not None and b"." in match[1]
        return float(match[1]) if match is not None else math.nan

    def _hour_of(self, match: re.Match[bytes], head: bytes) -> float:
        """Return when the hour of a stamp began; NaN where it is no date."""
        parts = match.groupdict()
        after = _YEAR_AFTER.match(head, match.end())
        year = _year(parts, after[1] if after is not None else None)
        name = parts.get("month_name")
        month = _MONTHS.index(name) + 1 if name else int(parts.get("month") or 1)
        try:
            moment = datetime(year or _ANY_YEAR, month, int(parts.get("day") or 1), int(parts["hour"]))
            began = _seconds(moment, parts["zone"])
        except (ValueError, OverflowError, OSError):
            return math.nan
        return began if year is not None else self._carried(began, has_date="day" in parts)

    def _carried(self, raw: float, *, has_date: bool) -> float:
        """Return an hour without a year moved on by the midnights or New Years that have passed."""
        self.lacks_date = True
        period = 366 * _DAY if has_date else _DAY
        if raw < self._newest_raw - period / 2:
            self._shift += period
            self._newest_raw = raw
        elif raw > self._newest_raw + period / 2 and self._shift:
            return raw + self._shift - period  # an older line, written late
        self._newest_raw = max(self._newest_raw, raw)
        return raw + self._shift

    def _remember(self, match: re.Match[bytes], began: float) -> float:
        rest = match["rest"]
        line = match.string
        self._hour_start, self._rest_start, self._rest_end = match.start(), *match.span("rest")
        self._hour, self._hour_began = line[match.start() : match.start("rest")], began
        self.fractions_seen |= len(rest) > len(b"00:00")
        return began + 60 * int(rest[:2]) + float(rest[3:].replace(b",", b"."))


def elapsed_seconds(text: bytes) -> float:
    """Return ``03:12``, ``1:03:12`` or ``2 days, 1:03:12`` in seconds; NaN for anything else."""
    days, _, clock = text.rpartition(b", ")
    try:
        count = int(days.split(b" ")[0]) if days else 0
        parts = [float(part) for part in clock.split(b":")]
    except ValueError:
        return math.nan
    if not 2 <= len(parts) <= 3:
        return math.nan
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + part
    return seconds + _DAY * count


def _year(parts: dict[str, bytes], after: bytes | None) -> int | None:
    if parts.get("short_year"):
        return 2000 + int(parts["short_year"])
    year = parts.get("year") or after
    return int(year) if year else None


def _seconds(moment: datetime, zone: bytes | None) -> float:
    if not zone:
        return moment.timestamp()
    if zone == b"Z":
        return moment.replace(tzinfo=timezone.utc).timestamp()
    sign = -1 if zone.startswith(b"-") else 1
    offset = sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    return moment.replace(tzinfo=timezone(offset)).timestamp()
