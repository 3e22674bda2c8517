"""Which process a piece of work belongs to, and whether it is still alive."""

from __future__ import annotations

import functools
import os
from pathlib import Path


def own_name() -> str:
    """Return this process's name, ``pid:start``; a later process with the same number has another start."""
    return _name(os.getpid())


def is_alive(owner: str) -> bool:
    """Whether the process of that name still runs; one that was killed and not yet waited for does not."""
    pid, _, start = owner.partition(":")
    return bool(start) and _start(int(pid)) == start


@functools.lru_cache(maxsize=1)  # keyed by the number: a forked child finds its own
def _name(pid: int) -> str:
    return f"{pid}:{_start(pid)}"


def _start(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # Fields from the third on, `state`: the second is the program's name and may hold anything. See proc(5).
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
