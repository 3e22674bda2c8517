"""Logs of a run with known faults: what a healthy machine would write, and what is planted into it."""

import json

import numpy as np
import pandas as pd
import pytest

from deblurkit.analysis.tables import Event, RunLog

PHASES = {"data": 2.0, "transfer": 1.0, "forward": 100.0, "loss": 3.0, "backward": 205.0, "optimizer": 8.0}
UNACCOUNTED = 4.0
EVERY = 10  # steps from one report of loss, memory and cache to the next
EPOCH = 1_000  # steps


def lingering(generator, size, memory, deviation):
    """An AR(1) series around zero: each value keeps ``memory`` of the one before."""
    pushes = generator.normal(0, deviation * np.sqrt(1 - memory**2), size)
    values = np.empty(size)
    value = generator.normal(0, deviation)
    for place, push in enumerate(pushes):
        value = memory * value + push
        values[place] = value
    return values


class Run:
    """A run that can be made ill before its log is taken.

    Steps of 323 ms with noise that lingers, now and then twice as long, warm-up at the front; a loss that
    falls by a power of the steps, a learning rate with warm-up and cosine, a cache that hits 92 % after the
    first epoch, and memory that fills in the first tenth of the run.
    """

    def __init__(self, steps=5_000, seed=0):
        generator = self.generator = np.random.default_rng(seed)
        self.steps = np.arange(1, steps + 1)
        slow = 1 + lingering(generator, steps, 0.99, 0.01)
        self.times = pd.DataFrame(
            {name: ms * slow * generator.lognormal(0, 0.02, steps) for name, ms in PHASES.items()}
        )
        self.times["data"] *= generator.lognormal(0, 0.5, steps)
        self.times["backward"] *= np.where(
            generator.random(steps) < 0.002, generator.uniform(1.5, 3, steps), 1
        )
        self.times.iloc[:3] *= 5
        self.times["forward/Stage1"] = 0.6 * self.times["forward"]
        self.unaccounted = UNACCOUNTED * generator.lognormal(0, 0.3, steps)
        self.at = self.steps[EVERY - 1 :: EVERY]
        part = self.at / steps
        count = len(self.at)
        self.scalars = {
            "loss": (0.02 + 0.2 * (self.at / 100) ** -0.4) * np.exp(lingering(generator, count, 0.3, 0.2)),
            "learning_rate": 2e-4 * np.minimum(self.at / 256, 0.5 * (1 + np.cos(np.pi * part))),
            "process_memory_bytes": 8e9 * np.minimum(1, 0.3 + 8 * part)
            + 4e7 * lingering(generator, count, 0.9, 1),
            "host_memory_share": 0.4 + lingering(generator, count, 0.95, 0.01),
            "cuda_allocated_bytes": 9e9 + 1e8 * generator.random(count),
            "cuda_reserved_bytes": np.where(part > 0.05, 12e9, 11e9),
            "cache_hit_rate": np.where(self.at > EPOCH, 0.92, 0.02) + 0.01 * generator.random(count),
            "gpu_utilisation": np.clip(0.95 + 0.02 * generator.normal(size=count), 0, 1),
        }
        self.events = []

    def slow_down(self, phase, factor):
        """Make a phase longer in every step."""
        self.times[phase] *= factor

    def stall(self, every, milliseconds, phase="data"):
        """Hold every so-manieth step up."""
        self.times.loc[self.steps % every == 0, phase] += milliseconds

    def creep(self, name, start, per_1000_steps):
        """Let memory grow from a step on."""
        self.scalars[name] = self.scalars[name] + per_1000_steps * np.maximum(0, self.at - start) / 1000

    def diverge(self, step, factor=20.0):
        """Let the loss rise from a step on, to so many times its level within 300 steps."""
        rise = np.clip((self.at - step) / 300, 0, 1)
        self.scalars["loss"] = self.scalars["loss"] * factor**rise

    def log(self, *, rank=None, world_size=None, waiting=None, folder="run"):
        """Return what a reader would."""
        times = self.times.copy()
        if waiting is not None:
            times["backward"] += waiting
            times["backward/all_reduce"] = waiting
        top = times[[name for name in times if "/" not in name]]
        steps = pd.DataFrame(
            {
                "step": self.steps,
                "total_ms": top.sum(axis=1) + self.unaccounted,
                "wall_known": True,
                "unix_s": np.nan,
                "count": 1,
                "epoch": (self.steps - 1) // EPOCH + 1.0,
            }
        )
        scalars = {
            name: pd.DataFrame({"step": self.at.astype(float), "unix_s": np.nan, "value": values})
            for name, values in self.scalars.items()
        }
        return RunLog(
            source=f"{folder}/rank{rank or 0}.jsonl",
            format="timing-jsonl",
            steps=steps,
            times=times,
            num_steps=len(steps),
            samples_per_step=8,
            rank=rank,
            world_size=world_size,
            scalars=scalars,
            events=tuple(self.events),
        )


@pytest.fixture
def ar1():
    """Return a function that makes noise which lingers: (seed, size, memory, deviation) -> values."""
    return lambda seed, size, memory, deviation: lingering(
        np.random.default_rng(seed), size, memory, deviation
    )


@pytest.fixture
def make_run():
    """Return the class, so that a test makes as many runs as it needs."""
    return Run


@pytest.fixture
def event():
    """Return the class of events."""
    return Event


class TracedRun:
    """A host and a device that work side by side, and the trace that a profiler would have written.

    The host takes its time for every launch; the device runs what was launched, in order, and no sooner than
    2 us after the launch began. Microseconds.
    """

    LATENCY = 2.0

    def __init__(self, **header):
        self.header = header
        self.events = []
        self.host = self.device = 1_000.0
        self.launches = 0
        self.began = None
        self.steps = 0

    def step(self):
        """Begin a step, and end the one before."""
        if self.began is not None:
            self.put("user_annotation", f"ProfilerStep#{self.steps}", self.began, self.host)
        self.began = self.host
        self.steps += 1

    def put(self, category, name, start, end, tid=1, **args):
        event = {"ph": "X", "cat": category, "name": name, "pid": args.pop("pid", 100), "tid": tid}
        self.events.append({**event, "ts": start, "dur": end - start, "args": args})

    def launch(self, kernel, host=10.0, name="gemm", category="kernel", call="cudaLaunchKernel", stream=7):
        """Let the host spend ``host`` on an operator that launches a kernel."""
        self.launches += 1
        start = self.host + host / 2
        begun = max(self.device, start + self.LATENCY)
        self.put("cpu_op", "aten::op", self.host, self.host + host)
        self.put("cuda_runtime", call, start, self.host + host, correlation=self.launches)
        self.put(category, name, begun, begun + kernel, pid=0, tid=stream, correlation=self.launches)
        self.host += host
        self.device = begun + kernel

    def launches_of(self, kernels, kernel, host, *, item_every=0, sync_every=0):
        """Let the host launch as many kernels, fetch a number or wait for the device after every so many."""
        for at in range(1, kernels + 1):
            self.launch(kernel, host)
            if item_every and at % item_every == 0:
                self.item()
            if sync_every and at % sync_every == 0:
                self.wait()

    def think(self, host):
        """Let the host do something that nothing records."""
        self.host += host

    def wait(self, call="cudaDeviceSynchronize"):
        """Let the host wait for the device."""
        end = max(self.host, self.device) + 1
        self.put("cuda_runtime", call, self.host, end)
        self.host = end

    def item(self):
        """Let the host fetch a number: a copy that it waits for."""
        self.launches += 1
        begun = max(self.device, self.host + 3 + self.LATENCY)
        self.put("cpu_op", "aten::item", self.host, begun + 4)
        self.put("cuda_runtime", "cudaMemcpyAsync", self.host + 3, begun + 3, correlation=self.launches)
        name = "Memcpy DtoH (Device -> Pageable)"
        self.put("gpu_memcpy", name, begun, begun + 2, pid=0, tid=7, correlation=self.launches)
        self.device, self.host = begun + 2, begun + 4

    def load(self, host):
        """Let the host be in the data loader's call."""
        name = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"
        self.put("user_annotation", name, self.host, self.host + host)
        self.host += host

    def as_dict(self):
        return {"schemaVersion": 1, **self.header, "traceEvents": self.events}

    def as_bytes(self):
        return json.dumps(self.as_dict()).encode()


@pytest.fixture
def traced_run():
    """Give the class `TracedRun`."""
    return TracedRun
