import errno
import os
import pickle
import sqlite3
import stat
import threading
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deblurkit.cache import index as index_module
from deblurkit.cache import node_cache as node_cache_module
from deblurkit.cache.limits import Limit
from deblurkit.cache.node_cache import NodeCache
from deblurkit.cache.owners import own_name
from deblurkit.errors import DataError

PAGE = 4096


def array(seed, size=1000):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def bytes_on_disk(cache):
    return sum(path.stat().st_blocks * 512 for path in cache.folder.glob("*.u8"))


def test_what_was_put_in_comes_back_read_only_and_in_shape(join):
    cache, frame = join(), array(0, (7, 5, 3))
    assert cache.put("a", frame)
    found = cache.get("a")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, frame)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0
    assert cache.get("b") is None


@pytest.mark.parametrize(
    "make", [lambda: array(1, (6, 8))[::2, ::-3], lambda: array(1, ()), lambda: array(1, 1)]
)
def test_any_shape_and_stride_can_be_kept(join, make):
    cache = join()
    assert cache.put("a", make())
    np.testing.assert_array_equal(cache.get("a"), make())
    assert cache.get("a").shape == make().shape


def test_a_key_may_be_a_file_name_that_is_not_unicode(join):
    cache, key = join(), os.fsdecode(b"\xd6\xd0.png")
    assert cache.put(key, array(0))
    assert cache.get(key) is not None


def test_only_uint8_can_be_kept(join):
    with pytest.raises(ValueError, match="uint8 can be cached, not of float32"):
        join().put("a", np.zeros(3, np.float32))
    cache = join()
    with pytest.raises(ValueError, match="uint8"):
        cache.get_or_make("a", lambda: np.zeros(3))
    assert cache.put("a", array(0))  # no claim is left behind


def test_an_evicted_array_stays_as_it_is_for_who_has_it(join):
    cache, frame = join(max_bytes=2 * PAGE), array(0, 2 * PAGE)
    cache.put("a", frame)
    found = cache.get("a")
    assert cache.put("b", array(1, 2 * PAGE))
    assert cache.get("a") is None
    np.testing.assert_array_equal(found, frame)


def test_what_is_empty_or_larger_than_the_budget_is_not_kept_and_evicts_nothing(join):
    cache = join(max_bytes=2 * PAGE)
    cache.put("a", array(0))
    assert not cache.put("large", array(1, 2 * PAGE + 1))
    assert not cache.put("empty", array(1, (0, 3)))
    np.testing.assert_array_equal(cache.get_or_make("large", lambda: array(1, 3 * PAGE)), array(1, 3 * PAGE))
    assert cache.get("a") is not None
    assert (cache.stats().items, cache.stats().evictions) == (1, 0)


class Ideal:
    """LRU as a textbook has it, in one process."""

    def __init__(self, max_bytes):
        self.max_bytes, self.entries = max_bytes, OrderedDict()
        self.hits = self.misses = self.evictions = 0

    def get(self, key):
        if key not in self.entries:
            self.misses += 1
            return False
        self.hits += 1
        self.entries.move_to_end(key)
        return True

    def put(self, key, size):
        if key in self.entries:
            self.entries.move_to_end(key)
            return True
        if size > self.max_bytes:
            return False
        while sum(self.entries.values()) + size > self.max_bytes:
            self.entries.popitem(last=False)
            self.evictions += 1
        self.entries[key] = size
        return True


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    accesses=st.lists(st.tuples(st.sampled_from(["get", "put", "make"]), st.integers(0, 9)), max_size=60),
    pages=st.lists(st.integers(1, 6), min_size=10, max_size=10),
)
def test_hits_and_evictions_are_those_of_an_ideal_lru(tmp_path, accesses, pages):
    cache, ideal = NodeCache.join("lru", max_bytes=10 * PAGE, root=tmp_path), Ideal(10 * PAGE)
    pages[0] = 11  # one that never fits
    for kind, number in accesses:
        key, content = str(number), array(number, pages[number] * PAGE - number)
        if kind == "get":
            assert (cache.get(key) is not None) == ideal.get(key)
        elif kind == "put":
            assert cache.put(key, content) == ideal.put(key, pages[number] * PAGE)
        else:
            made = []
            found = cache.get_or_make(key, lambda made=made, content=content: made.append(1) or content)
            np.testing.assert_array_equal(found, content)
            assert (not made) == ideal.get(key)
            if made:
                ideal.put(key, pages[number] * PAGE)
        stats = cache.stats()
        assert (stats.hits, stats.misses, stats.evictions) == (ideal.hits, ideal.misses, ideal.evictions)
        assert (stats.items, stats.bytes) == (len(ideal.entries), sum(ideal.entries.values()))
        assert bytes_on_disk(cache) == stats.bytes <= 10 * PAGE
    cache.close()
    assert os.listdir(tmp_path) == []


def test_only_its_owner_can_open_anything_in_it(join):
    before = os.umask(0o000)
    try:
        cache = join()
        cache.put("a", array(0))
    finally:
        os.umask(before)
    paths = [cache.folder.parent, *cache.folder.parent.rglob("*")]
    assert len(paths) == 7  # folder, lock, run, index with two companions, entry
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_budget_of_the_first_to_join_holds(join):
    assert join(max_bytes=5 * PAGE).max_bytes == 5 * PAGE
    assert join(max_bytes=9 * PAGE).max_bytes == 5 * PAGE
    assert join("other", max_bytes=9 * PAGE).max_bytes == 9 * PAGE


def test_a_budget_that_does_not_fit_is_refused_and_leaves_nothing(join, tmp_path):
    with pytest.raises(DataError, match=r"^DATA\.CACHE_SIZE_GB: 1\.0 MiB do not fit: RAM has 4\.0 KiB free"):
        join(max_bytes=1 << 20, limits=lambda root: [Limit("RAM", PAGE)])
    assert os.listdir(tmp_path / "shm") == []


def test_what_is_in_use_already_does_not_count_against_who_joins_later(join):
    join()
    assert join(limits=lambda root: [Limit("RAM", 0)]).max_bytes == 1 << 20


def test_a_full_file_system_is_an_error_with_its_folder(join, monkeypatch):
    def full(path, *, max_bytes):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(node_cache_module, "make_index", full)
    with pytest.raises(DataError, match=r"shm/deblurkit-cache-.*: no cache can be made here: .* is full"):
        join()


def test_a_copy_by_pickle_is_a_path_and_keeps_nothing_alive(join, tmp_path):
    cache = join()
    cache.put("a", array(0))
    cache.get("a")
    pickled = pickle.dumps(cache)
    assert len(pickled) < 400
    copy = pickle.loads(pickled)
    np.testing.assert_array_equal(copy.get("a"), array(0))
    assert copy.put("b", array(1))
    copy.close()
    np.testing.assert_array_equal(cache.get("b"), array(1))
    other = pickle.loads(pickled)
    cache.close()
    assert os.listdir(tmp_path / "shm") == []
    assert other.get("a") is None


def test_after_its_end_nothing_is_found_kept_or_raised(join):
    cache = join()
    worker = pickle.loads(pickle.dumps(cache))
    assert worker.put("a", array(0))
    cache.close()
    cache.close()
    successor = join()
    for ended in (cache, worker, pickle.loads(pickle.dumps(cache))):
        assert ended.get("a") is None
        assert not ended.put("a", array(0))
        np.testing.assert_array_equal(ended.get_or_make("a", lambda: array(0)), array(0))
        ended.close()
    assert cache.stats().is_broken
    assert (successor.stats().items, successor.stats().misses) == (0, 0)
    assert [path.name for path in successor.folder.parent.iterdir() if path.name.startswith("run")] == [
        successor.folder.name
    ]


@pytest.mark.parametrize("content", [b"not an index at all " * 500, b""])
def test_a_damaged_index_is_a_miss_and_told(tmp_path, content):
    (tmp_path / "index.sqlite").write_bytes(content)
    cache = NodeCache(tmp_path, PAGE)
    assert cache.get("a") is None
    assert not cache.put("a", array(0))
    np.testing.assert_array_equal(cache.get_or_make("a", lambda: array(0)), array(0))
    assert cache.stats().is_broken
    cache.close()


def test_an_index_that_stays_locked_is_a_miss_and_then_serves_again(join, monkeypatch):
    cache = join()
    cache.put("a", array(0))
    monkeypatch.setattr(index_module, "PATIENCE_SECONDS", 0)
    stuck = pickle.loads(pickle.dumps(cache))
    with stuck._index.transaction():
        assert cache.get("a") is None
        assert not cache.put("b", array(1))
    assert cache.get("a") is not None
    assert cache.put("b", array(1))
    stuck.close()


def test_a_full_file_system_keeps_nothing_and_takes_no_bytes(join, monkeypatch):
    cache = join()

    def full(path, content):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(node_cache_module.entries, "write_array", full)
        assert not cache.put("a", array(0))
        np.testing.assert_array_equal(cache.get_or_make("b", lambda: array(1)), array(1))
    assert (cache.stats().items, cache.stats().bytes, bytes_on_disk(cache)) == (0, 0, 0)
    assert cache.put("a", array(0))


def test_an_entry_that_could_not_be_finished_is_given_up_with_the_next_transaction(join, monkeypatch):
    cache = join()

    def locked(*arguments, **options):
        raise sqlite3.OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(node_cache_module.entries, "mark_ready", locked)
        patch.setattr(node_cache_module.entries, "give_up", locked)
        assert not cache.put("a", array(0))
    assert cache.stats().bytes == 0
    assert bytes_on_disk(cache) == 0
    assert cache.put("a", array(0))


def test_an_error_in_making_is_the_callers_and_leaves_no_claim(join):
    cache = join()
    with pytest.raises(ZeroDivisionError):
        cache.get_or_make("a", lambda: 1 // 0)
    assert cache.put("a", array(0))


def test_one_makes_what_two_miss_at_once(join, monkeypatch):
    cache, started, waited = join(), threading.Event(), threading.Event()
    pause = node_cache_module.time.sleep

    def note(seconds):
        waited.set()
        pause(seconds)

    def slowly():
        started.set()
        assert waited.wait(20)
        return array(0)

    first = threading.Thread(target=cache.get_or_make, args=("a", slowly))
    first.start()
    assert started.wait(20)
    monkeypatch.setattr(node_cache_module.time, "sleep", note)
    np.testing.assert_array_equal(cache.get_or_make("a", lambda: array(9)), array(0))
    first.join()
    assert (cache.stats().hits, cache.stats().misses) == (1, 1)


def test_who_has_waited_too_long_makes_it_too(join, monkeypatch):
    cache = join()
    monkeypatch.setattr(node_cache_module, "_WAIT_SECONDS", 0.01)

    def make():
        np.testing.assert_array_equal(cache.get_or_make("a", lambda: array(1)), array(1))
        return array(0)

    np.testing.assert_array_equal(cache.get_or_make("a", make), array(0))
    np.testing.assert_array_equal(cache.get("a"), array(0))
    assert (cache.stats().hits, cache.stats().misses) == (1, 2)


def test_the_owner_of_a_claim_is_this_process(join):
    cache = join()

    def make():
        with sqlite3.connect(cache.folder / "index.sqlite") as index:
            owners.extend(index.execute("SELECT owner FROM entries"))
        index.close()
        return array(0)

    owners = []
    cache.get_or_make("a", make)
    assert owners == [(own_name(),)]
