"""One cache per node beside one per process: memory of 2 ranks with 4 loader workers each, and hit rates.

Usage: python benchmarks/cache_sharing.py [--samples N, each worker's, default 100] [--json]

150 pairs of a blurry and a sharp 720p frame (791 MiB) are read in random clips of 6 through a budget of 256
MiB. Memory is the summed PSS of all ten processes above what they had before the first read, and what lies in
the cache's folder (a page that is mapped too counts twice); of readings 10 ms apart the highest. The ideal is
one OrderedDict of that size that is given the same reads in the order of their time. The seeds kept such a
dictionary in every process, of float32; the same with uint8 stands beside it.
"""

import argparse
import functools
import json
import multiprocessing
import tempfile
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.random  # before the forks, so that it is part of the base  # noqa: F401

from deblurkit.cache.folder import default_root
from deblurkit.cache.node_cache import NodeCache
from deblurkit.units import MIB

BUDGET = 256 * MIB
RANKS, WORKERS = 2, 4
SHAPE, CROP, CLIP, PAIRS = (720, 1280, 3), 192, 6, 150
NUM_FRAMES = 2 * PAIRS
FRAME_BYTES = int(np.prod(SHAPE))
CONTEXT = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Result:
    memory_mib: float
    memory_over_budget: float
    hit_rate: float
    ideal_hit_rate: float


def make(frame, dtype=np.uint8):
    """Return the frame of that number: cheap, and unlike any other."""
    row = np.random.default_rng(frame).integers(0, 256, SHAPE[1:], dtype=np.uint8)
    return np.broadcast_to(row, SHAPE).astype(dtype)


class Lru:
    """The seeds' cache: an OrderedDict bounded in bytes, in one process."""

    def __init__(self, make):
        self.make, self.entries, self.bytes, self.hits, self.reads = make, OrderedDict(), 0, 0, 0

    def read(self, frame):
        self.reads += 1
        if frame in self.entries:
            self.hits += 1
            self.entries.move_to_end(frame)
            return self.entries[frame]
        array = self.make(frame)
        while self.bytes + array.nbytes > BUDGET:
            self.bytes -= self.entries.popitem(last=False)[1].nbytes
        self.entries[frame] = array
        self.bytes += array.nbytes
        return array


class Shared:
    """The node's cache, read as a dataset does."""

    def __init__(self, root):
        self.cache = NodeCache.join("benchmark", max_bytes=BUDGET, root=root)

    def read(self, frame):
        return self.cache.get_or_make(str(frame), functools.partial(make, frame))


class Plan:
    """What the processes of a run tell each other."""

    def __init__(self, open_cache, samples, folder):
        self.open_cache, self.samples, self.folder = open_cache, samples, folder
        self.pids = CONTEXT.SimpleQueue()
        self.finished = CONTEXT.Value("i", 0)
        self.begin, self.end = CONTEXT.Event(), CONTEXT.Event()


def rank(plan, number):
    cache = plan.open_cache()
    workers = [
        CONTEXT.Process(target=worker, args=(plan, cache, WORKERS * number + n)) for n in range(WORKERS)
    ]
    for process in workers:
        process.start()
        plan.pids.put(process.pid)
    for process in workers:
        process.join()


def worker(plan, cache, number):
    """Read clips as training does; leave behind when each frame was read."""
    rng = np.random.default_rng((7, number))
    log = np.zeros((plan.samples, CLIP, 2, 2), np.int64)
    plan.pids.put(0)
    plan.begin.wait()
    for sample in range(plan.samples):
        start = rng.integers(PAIRS - CLIP + 1)
        top, left = rng.integers(SHAPE[0] - CROP), rng.integers(SHAPE[1] - CROP)
        for frame in range(CLIP):
            for kind in range(2):
                key = int(start + frame + kind * PAIRS)
                log[sample, frame, kind] = time.monotonic_ns(), key
                np.array(cache.read(key)[top : top + CROP, left : left + CROP])
    np.save(plan.folder / f"log{number}.npy", log.reshape(-1, 2))
    if isinstance(cache, Lru):
        np.save(plan.folder / f"hits{number}.npy", [cache.hits, cache.reads])
    with plan.finished:
        plan.finished.value += 1
    plan.end.wait()


def measure(open_cache, samples, root):
    """Return memory and hit rates of one way to cache."""
    with tempfile.TemporaryDirectory() as name:
        plan = Plan(open_cache, samples, Path(name))
        ranks = [CONTEXT.Process(target=rank, args=(plan, number)) for number in range(RANKS)]
        for process in ranks:
            process.start()
        told = [
            plan.pids.get() for _ in range(2 * RANKS * WORKERS)
        ]  # each worker's number, and that it is up
        pids = [process.pid for process in ranks] + [pid for pid in told if pid]
        base = summed_pss(pids)
        plan.begin.set()
        peak = 0
        while plan.finished.value < RANKS * WORKERS:
            assert all(process.is_alive() for process in ranks)
            time.sleep(0.01)
            peak = max(peak, summed_pss(pids) - base + bytes_in(root))
        hit_rate = shared_hit_rate(root)
        plan.end.set()
        for process in ranks:
            process.join()
        logs = np.concatenate([np.load(path) for path in plan.folder.glob("log*.npy")])
        if hit_rate is None:
            hits, reads = sum(np.load(path) for path in plan.folder.glob("hits*.npy"))
            hit_rate = hits / reads
    return Result(peak / MIB, peak / BUDGET, float(hit_rate), ideal_hit_rate(logs))


def shared_hit_rate(root):
    """Return the node's own figure; None where there is no cache of the node."""
    if not any(root.iterdir()):
        return None
    cache = NodeCache.join("benchmark", max_bytes=BUDGET, root=root)
    stats = cache.stats()
    cache.close()
    assert not stats.is_broken
    return stats.hit_rate


def ideal_hit_rate(logs):
    ideal = Lru(lambda frame: np.empty(SHAPE, np.uint8))  # never touched, so it takes no memory
    for _, frame in logs[np.argsort(logs[:, 0], kind="stable")]:
        ideal.read(int(frame))
    return ideal.hits / ideal.reads


def summed_pss(pids):
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def bytes_in(folder):
    """Return what the files of a folder take, some of which may just be going."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def warm_crop_us(root, rounds=3000):
    """Return the median time of a read that is a hit, with a 192 x 192 crop copied out of it."""
    cache = NodeCache.join("warm", max_bytes=BUDGET, root=root)
    for frame in range(20):
        cache.put(str(frame), make(frame))
    times = []
    for turn in range(rounds):
        began = time.perf_counter()
        np.array(cache.get(str(turn % 20))[100 : 100 + CROP, 300 : 300 + CROP])
        times.append(time.perf_counter() - began)
    cache.close()
    return 1e6 * float(np.median(times))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=default_root()) as name:
        root = Path(name)
        ways = {
            "one per node, uint8": functools.partial(Shared, root),
            "per process, float32": functools.partial(Lru, functools.partial(make, dtype=np.float32)),
            "per process, uint8": functools.partial(Lru, make),
        }
        results = {label: measure(way, options.samples, root) for label, way in ways.items()}
        crop_us = warm_crop_us(root)
        assert not any(root.iterdir())
    if options.json:
        table = {label: asdict(result) for label, result in results.items()}
        print(json.dumps({"budget_mib": BUDGET / MIB, "ways": table, "warm_get_and_crop_us": crop_us}))
        return
    print(f"{'cache of 256 MiB':22} {'memory':>10} {'x budget':>9} {'hit rate':>9} {'one ideal LRU':>14}")
    for label, result in results.items():
        print(
            f"{label:22} {result.memory_mib:6.0f} MiB {result.memory_over_budget:9.2f} "
            f"{100 * result.hit_rate:7.2f} % {100 * result.ideal_hit_rate:12.2f} %"
        )
    print(f"warm read of a 720p frame and copy of a 192 x 192 crop: {crop_us:.0f} us")


if __name__ == "__main__":
    main()
