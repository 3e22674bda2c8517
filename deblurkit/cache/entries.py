"""The entries of a cache: every function is one step inside a transaction of the index.

An entry is a row and a file. A row is claimed by the process that makes the array (``owner``), given its
bytes when they are known (`reserve`), and ready once the file is whole (`mark_ready`). Its id is the tick of
the claim and names the file, so no two entries ever share one. A file is removed before its row: a process
that is killed in between leaves a row without a file, which is a miss, never a file that nothing counts.
"""

from __future__ import annotations

import math
import mmap
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from deblurkit.cache.owners import is_alive, own_name
from deblurkit.cache.stats import CacheStats

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = """
CREATE TABLE node (clock INTEGER, max_bytes INTEGER, bytes INTEGER,
                   hits INTEGER, misses INTEGER, evictions INTEGER);
CREATE TABLE entries (id INTEGER PRIMARY KEY, key TEXT UNIQUE, used INTEGER, bytes INTEGER, shape TEXT,
                      owner TEXT);
CREATE INDEX ready_by_use ON entries (used) WHERE owner IS NULL;
CREATE INDEX unready ON entries (id) WHERE owner IS NOT NULL;
"""
PAGE_BYTES = 4096
_STALE_TICKS = 1000  # reads by all processes, after which an unready entry's owner is asked for


@dataclass(frozen=True)
class Claim:
    """The right to make the entry of that number, which names its file."""

    id: int


def look_up(index: sqlite3.Connection, folder: Path, key: str) -> NDArray[np.uint8] | None:
    """Return the entry, now the most recently used; counts a hit, or a miss and None."""
    row = index.execute("SELECT id, shape FROM entries WHERE key = ? AND owner IS NULL", (key,)).fetchone()
    array = None
    if row is not None:
        array = _mapped(file_of(folder, row[0]), tuple(map(int, row[1].split())))
        if array is None:
            _drop(index, folder, row[0])
    clock = _tick(index, "misses" if array is None else "hits")
    if array is not None:
        index.execute("UPDATE entries SET used = ? WHERE id = ?", (clock, row[0]))
    return array


def look_up_or_claim(
    index: sqlite3.Connection, folder: Path, key: str
) -> NDArray[np.uint8] | Claim | Literal["wait"]:
    """Return the entry as `look_up` does, or the claim to make it, or that another process is making it."""
    row = index.execute("SELECT id, owner FROM entries WHERE key = ?", (key,)).fetchone()
    if row is not None and row[1] is not None:
        if is_alive(row[1]):
            return "wait"
        _drop(index, folder, row[0])
    array = look_up(index, folder, key)
    return _new_claim(index, key, clock=_clock(index)) if array is None else array


def claim(index: sqlite3.Connection, folder: Path, key: str) -> Claim | bool:
    """Return the claim to make an entry, or whether it is there already; False if another is making it.

    An entry that is there becomes the most recently used.
    """
    row = index.execute("SELECT id, owner FROM entries WHERE key = ?", (key,)).fetchone()
    clock = _tick(index)
    if row is not None and row[1] is None:
        index.execute("UPDATE entries SET used = ? WHERE id = ?", (clock, row[0]))
        return True
    if row is not None:
        if is_alive(row[1]):
            return False
        _drop(index, folder, row[0])
    return _new_claim(index, key, clock=clock)


def reserve(
    index: sqlite3.Connection, folder: Path, claimed: Claim, *, num_bytes: int, shape: tuple[int, ...]
) -> bool:
    """Return whether there is room for a claimed entry, after evicting what was used longest ago.

    Nothing is evicted for an entry that cannot fit.
    """
    size = charged_bytes(num_bytes)
    max_bytes = read_budget(index)
    clock = _clock(index)
    _drop_dead(index, folder, before=clock - _STALE_TICKS)
    if size + _unready_bytes(index) > max_bytes:
        _drop_dead(index, folder, before=clock)
    wanted = index.execute("SELECT 1 FROM entries WHERE id = ?", (claimed.id,)).fetchone()
    if wanted is None or size + _unready_bytes(index) > max_bytes:
        return False
    while _bytes(index) + size > max_bytes:
        if not _evict(index, folder):
            return False
    shape_text = " ".join(map(str, shape))
    index.execute("UPDATE entries SET bytes = ?, shape = ? WHERE id = ?", (size, shape_text, claimed.id))
    index.execute("UPDATE node SET bytes = bytes + ?", (size,))
    return True


def mark_ready(index: sqlite3.Connection, claimed: Claim) -> bool:
    """Let an entry be read whose file is whole; returns whether it is still wanted."""
    done = index.execute("UPDATE entries SET owner = NULL WHERE id = ?", (claimed.id,))
    return done.rowcount == 1


def give_up(index: sqlite3.Connection, folder: Path, claimed: Claim) -> None:
    """Drop a claim, its file and its bytes."""
    _drop(index, folder, claimed.id)


def read_stats(index: sqlite3.Connection) -> CacheStats:
    """Return the figures of the node."""
    items = index.execute("SELECT COUNT(*) FROM entries WHERE owner IS NULL").fetchone()[0]
    figures = index.execute("SELECT bytes, max_bytes, hits, misses, evictions FROM node").fetchone()
    return CacheStats(items, *figures)


def read_budget(index: sqlite3.Connection) -> int:
    """Return the bytes that all entries may take together."""
    return int(index.execute("SELECT max_bytes FROM node").fetchone()[0])


def file_of(folder: Path, entry: int) -> Path:
    """Return where an entry's bytes lie."""
    return folder / f"{entry}.u8"


def charged_bytes(num_bytes: int) -> int:
    """Return the memory that a file of so many bytes takes: whole pages."""
    return -(-num_bytes // PAGE_BYTES) * PAGE_BYTES


def write_array(path: Path, array: NDArray[np.uint8]) -> None:
    """Write an array's bytes to a new file that only its owner may open.

    By a call that reports a full file system: to touch a page of a map that cannot be had is a bus error.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(array.data if array.flags.c_contiguous else array.tobytes())


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Return a read-only array over a file, or None if it is missing or of another size."""
    import numpy as np

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_size != math.prod(shape):
            return None
        return np.frombuffer(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ), dtype=np.uint8).reshape(shape)
    finally:
        os.close(descriptor)


def _tick(index: sqlite3.Connection, counter: str | None = None) -> int:
    """Advance the clock that recency is told by, and a counter of the node; returns the new tick."""
    count = f", {counter} = {counter} + 1" if counter else ""
    index.execute(f"UPDATE node SET clock = clock + 1{count}")
    return _clock(index)


def _clock(index: sqlite3.Connection) -> int:
    return int(index.execute("SELECT clock FROM node").fetchone()[0])


def _bytes(index: sqlite3.Connection) -> int:
    return int(index.execute("SELECT bytes FROM node").fetchone()[0])


def _unready_bytes(index: sqlite3.Connection) -> int:
    row = index.execute("SELECT COALESCE(SUM(bytes), 0) FROM entries WHERE owner IS NOT NULL").fetchone()
    return int(row[0])


def _new_claim(index: sqlite3.Connection, key: str, *, clock: int) -> Claim:
    index.execute("INSERT INTO entries VALUES (?, ?, ?, 0, '', ?)", (clock, key, clock, own_name()))
    return Claim(clock)


def _evict(index: sqlite3.Connection, folder: Path) -> bool:
    oldest = "SELECT id FROM entries WHERE owner IS NULL ORDER BY used LIMIT 1"
    row = index.execute(oldest).fetchone()
    if row is not None:
        _drop(index, folder, row[0])
        index.execute("UPDATE node SET evictions = evictions + 1")
    return row is not None


def _drop_dead(index: sqlite3.Connection, folder: Path, *, before: int) -> None:
    """Drop what processes that have ended began before a tick."""
    unready = "SELECT id, owner FROM entries WHERE owner IS NOT NULL AND id < ?"
    for entry, owner in index.execute(unready, (before,)).fetchall():
        if not is_alive(owner):
            _drop(index, folder, entry)


def _drop(index: sqlite3.Connection, folder: Path, entry: int) -> None:
    """Remove an entry's file, then its row."""
    file_of(folder, entry).unlink(missing_ok=True)
    row = index.execute("SELECT bytes FROM entries WHERE id = ?", (entry,)).fetchone()
    if row is not None:
        index.execute("UPDATE node SET bytes = bytes - ?", row)
        index.execute("DELETE FROM entries WHERE id = ?", (entry,))
