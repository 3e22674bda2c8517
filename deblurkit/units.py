"""Quantities as text: the only place where bytes, seconds and rates are formatted."""

from __future__ import annotations

GIB = 1024**3
MIB = 1024**2


def format_bytes(count: float) -> str:
    """Return bytes in the largest binary unit that leaves at least one whole: ``1.50 GiB``, ``12.0 MiB``."""
    if abs(count) >= GIB:
        return f"{count / GIB:.2f} GiB"
    if abs(count) >= MIB:
        return f"{count / MIB:.1f} MiB"
    if abs(count) >= 1024:
        return f"{count / 1024:.1f} KiB"
    return f"{count:.0f} B"


def format_duration(seconds: float) -> str:
    """Return a duration as a person says it: ``850 ms``, ``12.3 s``, ``4 min 05 s``, ``2 d 04 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h"


def format_ms(milliseconds: float) -> str:
    """Return milliseconds with about three digits: ``0.12 ms``, ``4.5 ms``, ``1,805 ms``."""
    if abs(milliseconds) >= 100:
        return f"{milliseconds:,.0f} ms"
    if abs(milliseconds) >= 1:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.2f} ms"


def format_share(share: float) -> str:
    """Return a share of one as a percentage: ``0.452`` -> ``45.2 %``."""
    return f"{share * 100:.1f} %"


def format_count(count: int) -> str:
    """Return a count with about three digits: ``950``, ``41.2 k``, ``18.3 M``."""
    if count >= 1_000_000:
        return f"{count / 1_000_000:.1f} M"
    if count >= 1_000:
        return f"{count / 1_000:.1f} k"
    return str(count)


def plural(count: int, noun: str) -> str:
    """Return ``1 step``, ``2,000 steps``, ``2 processes``."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def format_rate(per_second: float) -> str:
    """Return how many a second with three digits: ``0.0512``, ``6.50``, ``41.2``, ``1,805``."""
    if per_second >= 100:
        return f"{per_second:,.0f}"
    if per_second >= 10:
        return f"{per_second:.1f}"
    return f"{per_second:.2f}" if per_second >= 1 else f"{per_second:.3g}"
