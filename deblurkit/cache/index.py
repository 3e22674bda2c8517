"""The index of a cache: an SQLite file beside the entries, opened by each process for itself.

SQLite keeps its locks in the kernel and finds out by itself what a killed process has left unfinished, so a
process may die at any moment. What it cannot bear is a fork: a child that opens the file while its parent has
it open believes that it holds the parent's locks. So the connection is closed before every fork, and opened
again when it is next needed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from deblurkit.cache import forks
from deblurkit.cache.entries import SCHEMA

PATIENCE_SECONDS = 2.0  # that a process waits for others' transactions, of some 50 us each
_PAUSE_SECONDS = 0.0002


def make_index(path: Path, *, max_bytes: int) -> None:
    """Make an empty index that only its owner may open."""
    os.close(
        os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    )  # SQLite gives its log the same mode
    with contextlib.closing(_open(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA)
        connection.execute("INSERT INTO node VALUES (0, ?, 0, 0, 0, 0)", (max_bytes,))


class Index:
    """A process's way to the index; safe to use from several threads and to carry across a fork."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        forks.watch(self)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection; no other process changes anything until the block has ended.

        Raises:
            sqlite3.Error: if the index is gone, damaged, or locked for longer than others need.
        """
        with self._lock:
            if self._connection is None:
                self._connection = _open(self._path)
            connection = self._connection
            _patiently(connection, "BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the connection; a later transaction opens another."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def before_fork(self) -> None:
        """Close the connection once no thread is in a transaction, and keep it closed."""
        self._lock.acquire()
        self.close()

    def after_fork_in_parent(self) -> None:
        """Let transactions begin again."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Let transactions begin again, by a lock that no thread of the parent waits for."""
        self._lock = threading.RLock()


def _open(path: Path) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        _patiently(connection, "PRAGMA synchronous = OFF")  # outlives processes; the machine it need not
        _patiently(connection, "PRAGMA cache_size = -512")  # KiB; ten thousand entries are 2 MiB
        _patiently(connection, "PRAGMA wal_autocheckpoint = 250")  # pages: a log of 1 MiB
    except BaseException:
        connection.close()
        raise
    return connection


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    """Execute what other processes' locks may hold up; they hold them a thousandth of SQLite's own pauses."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if "lock" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(_PAUSE_SECONDS)
