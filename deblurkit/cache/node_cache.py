"""A cache of arrays for all processes of a node, bounded in bytes: what was used longest ago makes room."""

from __future__ import annotations

import functools
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from deblurkit.cache import entries
from deblurkit.cache.entries import Claim
from deblurkit.cache.folder import Membership, default_root, folder_of, join_folder, remove_remains
from deblurkit.cache.index import Index, make_index
from deblurkit.cache.limits import Limit, check_budget, node_limits
from deblurkit.cache.stats import CacheStats
from deblurkit.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_INDEX = "index.sqlite"
_WAIT_SECONDS = 2.0  # for an array that another process makes, before it is made here too
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.001, 0.016

Found = TypeVar("Found")
Other = TypeVar("Other")


class NodeCache:
    """uint8 arrays by name, held once for all processes of the node; true LRU over all of them.

    A key stands for one content. Main processes `join`; loader workers get the joined object as part of their
    dataset, forked or pickled (it is a path then). The main process keeps its object while workers run: the
    cache is there as long as a main process that has joined has neither closed it nor ended.

    Nothing that happens to the cache makes a sample fail: where it is gone, damaged, full or locked for too
    long, `get` finds nothing and `put` keeps nothing.

    Attributes:
        folder: where index and entries lie.
        max_bytes: the budget in force; every entry counts in whole pages of 4 KiB. An evicted entry that a
            process still has mapped takes memory until it is let go, beyond the budget.
    """

    def __init__(self, folder: Path, max_bytes: int, *, membership: Membership | None = None) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._index = Index(folder / _INDEX)
        self._is_usable = True
        self._unfinished: set[Claim] = set()
        self._end = weakref.finalize(self, _end, self._index, membership)

    @classmethod
    def join(
        cls,
        name: str,
        *,
        max_bytes: int,
        root: Path | None = None,
        limits: Callable[[Path], Iterable[Limit]] = node_limits,
    ) -> NodeCache:
        """Return the node's cache of that name, made if no main process of this user has it yet.

        For main processes. Remains of killed runs are removed first. Where the cache is there already
        its budget holds, whatever ``max_bytes`` says: compare the attribute.

        Args:
            name: caches of other names are apart.
            max_bytes: the budget.
            root: where the folder is made; ``/dev/shm`` unless given.
            limits: what a new cache in ``root`` has to fit into.

        Raises:
            DataError: if the budget does not fit, or the folder cannot be made or belongs to somebody else.
        """
        if max_bytes < 1:
            raise ValueError(f"a budget of at least a byte expected, got {max_bytes}")
        root = (root or default_root()).absolute()
        folder = folder_of(root, name)

        def prepare(run: Path) -> None:
            check_budget(max_bytes, limits(root))
            make_index(run / _INDEX, max_bytes=max_bytes)

        try:
            remove_remains(root)
            membership, run = join_folder(folder, prepare)
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"{folder}: no cache can be made here: {error}") from error
        cache = cls(run, max_bytes, membership=membership)
        cache.max_bytes = cache._attempt(entries.read_budget, otherwise=max_bytes)
        return cache

    def __reduce__(self) -> tuple[Any, ...]:
        return NodeCache, (self.folder, self.max_bytes)

    def get(self, key: str) -> NDArray[np.uint8] | None:
        """Return the array put in under ``key``, or None.

        The array is read-only and mapped: only pages that are looked at count, and it stays as it is when the
        entry is evicted. Copy out of it what is to be kept, so that it can be let go.
        """
        step = functools.partial(entries.look_up, folder=self.folder, key=_storable(key))
        return self._attempt(step, otherwise=None)

    def put(self, key: str, array: NDArray[np.uint8]) -> bool:
        """Keep ``array`` and return whether it is in the cache now.

        What is there under this key stays there. False where the array is empty or larger than the budget,
        another process is writing it, or the cache cannot be used.
        """
        _check_array(array)
        step = functools.partial(entries.claim, folder=self.folder, key=_storable(key))
        claimed = self._attempt(step, otherwise=False)
        return self._fill(claimed, array) if isinstance(claimed, Claim) else claimed

    def get_or_make(self, key: str, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the array of ``key``, read-only; ``make`` it if it is not there, and keep it.

        Of several processes that miss the same key at once, one makes it and the others wait.
        """
        found = self._find_or_claim(_storable(key))
        if found is None:
            return _read_only(make())
        if not isinstance(found, Claim):
            return found
        try:
            array = make()
            _check_array(array)
        except BaseException:
            self._give_up(found)
            raise
        self._fill(found, array)
        return _read_only(array)

    def stats(self) -> CacheStats:
        """Return the figures of the node since the cache was made, over all processes."""
        unknown = CacheStats(0, 0, self.max_bytes, 0, 0, 0, is_broken=True)
        return self._attempt(entries.read_stats, otherwise=unknown)

    def close(self) -> None:
        """Use the cache no more; the last main process to close it removes it. Happens by itself at exit."""
        self._is_usable = False
        self._end()

    def _find_or_claim(self, key: str) -> NDArray[np.uint8] | Claim | None:
        """Return the array, or the claim to make it, or None where it has to be made and cannot be kept."""
        step = functools.partial(entries.look_up_or_claim, folder=self.folder, key=key)
        pause, give_up = _FIRST_PAUSE_SECONDS, time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < give_up:
            found = self._attempt(step, otherwise=None)
            if not isinstance(found, str):
                return found
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        return self.get(key)

    def _fill(self, claimed: Claim, array: NDArray[np.uint8]) -> bool:
        """Write a claimed entry and return whether it can be read now."""
        done = False
        try:
            size, shape = array.nbytes, array.shape
            reserve = functools.partial(
                entries.reserve, folder=self.folder, claimed=claimed, num_bytes=size, shape=shape
            )
            if size and self._attempt(reserve, otherwise=False):
                entries.write_array(entries.file_of(self.folder, claimed.id), array)
                ready = functools.partial(entries.mark_ready, claimed=claimed)
                done = self._attempt(ready, otherwise=False)
        except OSError:  # the file system is full, or the folder gone
            return False
        finally:
            if not done:
                self._give_up(claimed)
        return done

    def _give_up(self, claimed: Claim) -> None:
        """Drop a claim with the next transaction that succeeds: others would wait for it."""
        self._unfinished.add(claimed)
        self._attempt(lambda index: None, otherwise=None)

    def _attempt(self, step: Callable[[sqlite3.Connection], Found], *, otherwise: Other) -> Found | Other:
        """Return what a step gives inside a transaction, or ``otherwise`` where the index cannot be used."""
        if not self._is_usable:
            return otherwise
        unfinished = list(self._unfinished)
        try:
            with self._index.transaction() as index:
                for claimed in unfinished:
                    entries.give_up(index, self.folder, claimed)
                found = step(index)
        except (sqlite3.OperationalError, sqlite3.ProgrammingError, OSError):
            return otherwise  # locked, full, or gone: the next time may be better
        except sqlite3.Error:
            self._is_usable = False  # damaged, which does not pass
            return otherwise
        self._unfinished.difference_update(unfinished)
        return found


def _end(index: Index, membership: Membership | None) -> None:
    index.close()
    if membership is not None:
        membership.leave()


def _storable(key: str) -> str:
    """Return a key that SQLite takes: a file name that is not UTF-8 holds lone surrogates."""
    return key.encode("utf-8", "backslashreplace").decode()


def _check_array(array: NDArray[np.uint8]) -> None:
    if array.dtype.str != "|u1":
        raise ValueError(f"arrays of uint8 can be cached, not of {array.dtype}")


def _read_only(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    seen = array.view()
    seen.flags.writeable = False
    return seen
