"""Workers of a cache are killed at random moments; what is left has to go on as if nothing had been.

Usage: python tests/cache/kill_rounds.py ROOT ROUNDS SEED

A main process joins a cache in ROOT and forks workers that read through it and compare every array with
what it has to be. In every round one of them is killed, while it waits, makes, writes, or reads. Then every
other one has to go on, the budget to hold in the index and on the disk, and a new worker takes the place.
Prints what has happened; ends with an AssertionError where something is wrong.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

import numpy as np

from deblurkit.cache.node_cache import NodeCache

PAGE = 4096
MAX_BYTES = 60 * PAGE
NUM_WORKERS = 4
NUM_KEYS = 40
DEADLOCK_SECONDS = 60


def content(key):
    """Return the array of a key, of 1 to 8 pages; no two are alike."""
    size = (1 + key % 8) * PAGE - key
    return np.full(size, key, np.uint8) + np.arange(size, dtype=np.uint8)


def work(cache, number, progress, stop, seed):
    """Read until told to stop; the exit code says whether all arrays were right."""
    rng = random.Random(seed)
    while not stop.value:
        key = min(int(rng.expovariate(0.08)), NUM_KEYS - 1)
        if rng.random() < 0.5:
            found = cache.get_or_make(str(key), functools.partial(content, key))
        else:
            found = cache.get(str(key))
            if found is None:
                cache.put(str(key), content(key))
        if found is not None and not np.array_equal(found, content(key)):
            os._exit(3)
        progress[number] += 1
    os._exit(0)


def wait_for(condition, what):
    give_up = time.monotonic() + DEADLOCK_SECONDS
    while not condition():
        assert time.monotonic() < give_up, what
        time.sleep(0.001)


def check_budget(cache):
    stats = cache.stats()
    assert not stats.is_broken
    assert stats.bytes <= MAX_BYTES, stats
    sizes = 0
    for name in os.listdir(cache.folder):
        if name.endswith(".u8"):
            with contextlib.suppress(FileNotFoundError):
                sizes += (cache.folder / name).stat().st_blocks * 512
    assert sizes <= MAX_BYTES, sizes


def check_index(cache):
    """Once all is quiet, index, counters and files tell the same."""
    with contextlib.closing(sqlite3.connect(cache.folder / "index.sqlite")) as index:
        assert index.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        charged = index.execute("SELECT SUM(bytes) FROM entries").fetchone()
        assert charged == index.execute("SELECT bytes FROM node").fetchone()
        ready = {row[0] for row in index.execute("SELECT id FROM entries WHERE owner IS NULL")}
        begun = {row[0] for row in index.execute("SELECT id FROM entries WHERE owner IS NOT NULL")}
    files = {int(path.stem) for path in cache.folder.glob("*.u8")}
    assert ready <= files <= ready | begun, (ready - files, files - ready - begun)


def main(root, rounds, seed):
    rng = random.Random(seed)
    context = multiprocessing.get_context("fork")
    cache = NodeCache.join("kills", max_bytes=MAX_BYTES, root=root)
    progress = context.RawArray("L", NUM_WORKERS)
    stop = context.RawValue("b", 0)  # an Event has a lock, which a killed worker may hold for ever

    def start(number):
        process = context.Process(
            target=work, args=(cache, number, progress, stop, rng.random()), daemon=True
        )
        process.start()
        return process

    def wait_for_progress(numbers, what):
        before = list(progress)
        for number in numbers:
            wait_for(lambda number=number: progress[number] > before[number] + 5, f"{what}: worker {number}")

    everybody = set(range(NUM_WORKERS))
    workers = [start(number) for number in range(NUM_WORKERS)]
    for turn in range(rounds):
        victim = rng.randrange(NUM_WORKERS)
        wait_for_progress({victim}, f"round {turn}, before the kill")
        time.sleep(rng.random() * 0.005)
        os.kill(workers[victim].pid, signal.SIGKILL)
        wait_for_progress(everybody - {victim}, f"round {turn}, after the kill")
        workers[victim].join()
        assert workers[victim].exitcode == -signal.SIGKILL, workers[victim].exitcode
        check_budget(cache)
        workers[victim] = start(victim)
    stop.value = 1
    for worker in workers:
        worker.join(DEADLOCK_SECONDS)
        assert worker.exitcode == 0, worker.exitcode
    stats = cache.stats()
    check_budget(cache)
    cache._index.close()
    check_index(cache)
    for key in range(NUM_KEYS):
        found = cache.get_or_make(str(key), functools.partial(content, key))
        assert np.array_equal(found, content(key)), key
    cache.close()
    print(json.dumps({"reads": sum(progress), "hit_rate": stats.hit_rate, "evictions": stats.evictions}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
