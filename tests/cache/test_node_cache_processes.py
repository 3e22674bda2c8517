"""The cache in several processes that fork, end, and are killed."""

import json
import os
from pathlib import Path

import pytest

KILL_ROUNDS = Path(__file__).with_name("kill_rounds.py").read_text(encoding="utf-8")

COMMON = """
import os, pickle, signal, sys, threading
from pathlib import Path
import numpy as np
import numpy.random  # now: its first use in a thread would hold the import lock over a fork
from deblurkit.cache import entries
from deblurkit.cache.node_cache import NodeCache

def content(seed, size=10_000):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)

def is_right(cache, seed):
    found = cache.get(str(seed))
    return found is not None and np.array_equal(found, content(seed))

def forked(work):
    pid = os.fork()
    if not pid:
        try:
            work()
        except SystemExit:
            raise
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid

def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

root = Path(sys.argv[1])
"""


@pytest.fixture
def run(start, tmp_path):
    """Return a function that runs code after ``COMMON`` and returns what it prints; it must end well."""

    def run_to_end(code, *arguments):
        process = start(COMMON + code, tmp_path, *arguments)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        return output.strip()

    return run_to_end


def test_a_forked_child_shares_it_and_its_exit_removes_nothing(run, tmp_path):
    run("""
cache = NodeCache.join("a", max_bytes=1 << 20, root=root)
assert cache.put("0", content(0)) and is_right(cache, 0)
def work():
    assert is_right(cache, 0) and cache.put("1", content(1))
    cache.get_or_make("2", lambda: content(2))
    sys.exit(0)  # with all that Python does at exit
child = forked(work)
assert status(child) == 0
closing = forked(cache.close)
assert status(closing) == 0
assert all(is_right(cache, seed) for seed in range(3))
assert cache.stats().items == 3
""")
    assert os.listdir(tmp_path) == []  # the main process's own exit has removed it


def test_a_spawned_process_shares_it_by_pickle(run, start, tmp_path):
    run("""
import subprocess
cache = NodeCache.join("a", max_bytes=1 << 20, root=root)
cache.put("0", content(0))
code = "import pickle, sys; cache = pickle.loads(bytes.fromhex(sys.argv[1]));" \\
       "assert cache.put('1', cache.get('0')[::-1])"
subprocess.run([sys.executable, "-c", code, pickle.dumps(cache).hex()], check=True)
assert np.array_equal(cache.get("1"), content(0)[::-1])
""")
    assert os.listdir(tmp_path) == []


def test_forks_amid_other_threads_reads_neither_hang_nor_break_it(run):
    run("""
cache = NodeCache.join("a", max_bytes=20 * 12288, root=root)
done = threading.Event()
wrong = []
def read():
    seed = 0
    while not done.is_set():
        seed = (seed + 1) % 30
        found = cache.get_or_make(str(seed), lambda: content(seed))
        if not np.array_equal(found, content(seed)):
            wrong.append(seed)
def work():
    for seed in range(30):
        assert np.array_equal(cache.get_or_make(str(seed), lambda: content(seed)), content(seed))
threads = [threading.Thread(target=read) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(15):
    assert [status(child) for child in [forked(work), forked(work)]] == [0, 0]
done.set()
for thread in threads:
    thread.join()
assert not wrong and not cache.stats().is_broken
""")


def test_the_killed_workers_half_written_entry_is_made_anew(run, tmp_path):
    run("""
cache = NodeCache.join("a", max_bytes=1 << 20, root=root)
def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
def killed_half_way(path, array):
    path.write_bytes(array.tobytes()[:5000])
    killed()
def while_writing():
    entries.write_array = killed_half_way
    cache.put("1", content(1))
def while_evicting():
    entries._evict = killed
    cache.put("2", content(2, 1 << 20))
works = [lambda: cache.get_or_make("0", killed), while_writing, while_evicting]
def after_unlink():
    unlink = Path.unlink
    def last(path, **options):
        was_there = path.exists()
        unlink(path, **options)
        if was_there:
            killed()
    Path.unlink = last
    cache.put("2", content(2, 1 << 20))
works.append(after_unlink)
assert cache.put("3", content(3))
for work in works:
    assert status(forked(work)) == -signal.SIGKILL
assert cache.get("1") is None
assert cache.get("3") is None  # the row without a file
for seed in range(4):
    assert np.array_equal(cache.get_or_make(str(seed), lambda: content(seed)), content(seed))
    assert is_right(cache, seed)
assert len(list(cache.folder.glob("*.u8"))) == cache.stats().items == 4
assert cache.stats().bytes == 4 * 12288
""")


def test_remains_of_a_killed_main_process_go_at_the_next_join_and_its_orphans_find_nothing(run, tmp_path):
    run("""
living = NodeCache.join("living", max_bytes=1 << 20, root=root)
living.put("0", content(0))
to_orphan, from_orphan, ready = os.pipe(), os.pipe(), os.pipe()
def orphan():
    assert is_right(cache, 0)
    os.write(ready[1], b"x")
    os.read(to_orphan[0], 1)
    result = [cache.get("0") is None, not cache.put("1", content(1)), fresh.get("0") is None,
              not fresh.put("1", content(1)),
              np.array_equal(cache.get_or_make("2", lambda: content(2)), content(2))]
    os.write(from_orphan[1], bytes(result))
def main():
    global cache, fresh
    cache = NodeCache.join("killed", max_bytes=1 << 20, root=root)
    fresh = pickle.loads(pickle.dumps(cache))
    cache.put("0", content(0))
    forked(orphan)
    os.read(ready[0], 1)
    os.kill(os.getpid(), signal.SIGKILL)
assert status(forked(main)) == -signal.SIGKILL
assert len(os.listdir(root)) == 2
again = NodeCache.join("killed", max_bytes=1 << 20, root=root)
os.write(to_orphan[1], b"x")
assert os.read(from_orphan[0], 9) == bytes([1] * 5)
assert again.stats().items == 0 and len(list(again.folder.parent.iterdir())) == 2
assert is_right(living, 0)
""")
    assert os.listdir(tmp_path) == []


def test_ranks_share_one_cache_and_the_last_one_removes_it(run, tmp_path):
    output = run("""
def rank(number):
    cache = NodeCache.join("a", max_bytes=1 << 20, root=root)
    def worker(first):
        for seed in range(first, first + 20):
            found = cache.get_or_make(str(seed), lambda: content(seed))
            assert np.array_equal(found, content(seed))
    assert [status(pid) for pid in [forked(lambda: worker(5)), forked(lambda: worker(10))]] == [0, 0]
    if number == 0:
        os.read(wait[0], 1)
        print(cache.stats().items, flush=True)
    else:
        cache.close()
        os.write(wait[1], b"x")
wait = os.pipe()
assert [status(pid) for pid in [forked(lambda: sys.exit(rank(0))), forked(lambda: rank(1))]] == [0, 0]
""")
    assert output == "25"
    assert os.listdir(tmp_path) == []


def test_workers_killed_at_random_harm_nobody(start, tmp_path):
    _kill_rounds(start, tmp_path, rounds=20)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_workers_killed_two_hundred_times_harm_nobody(start, tmp_path, seed):
    _kill_rounds(start, tmp_path, rounds=200, seed=seed)


def _kill_rounds(start, root, *, rounds, seed=0):
    process = start(KILL_ROUNDS, root, rounds, seed)
    output, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (0, "")
    result = json.loads(output)
    assert result["reads"] >= 20 * rounds
    assert 0.2 < result["hit_rate"] < 1  # entries were read, written and evicted all the time
    assert result["evictions"] > rounds
    assert os.listdir(root) == []
