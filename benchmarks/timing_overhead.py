"""What timing costs a step, beside other ways to time one: ratios of runs that take turns, medians.

Steps are measured in CPU time of the process, which other processes disturb less; ``--wall`` for wall time.

A step of 5 ms with five phases (a busy loop), one step of each way after the other; a training step of VRT
with every block timed forward and backward; nanoseconds of a scope and of `log_timing` that goes nowhere.

    python benchmarks/timing_overhead.py                 # phases, primitives, a small VRT: a minute
    python benchmarks/timing_overhead.py --full          # the GoPro VRT at 6x64x64 instead: half an hour
    python benchmarks/timing_overhead.py --threads 10    # 8 threads log for 10 s: every call must be counted
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import threading
import time
import timeit
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from deblurkit.timing.logger import TimingLogger, log_timing, set_global_timing_logger
from deblurkit.timing.module_times import ModuleTimes

PHASES = ("data", "transfer", "forward", "backward", "optimizer")
Step = Callable[[], None]
Clock = Callable[[], float]
Way = Callable[[], contextlib.AbstractContextManager[Step]]


def main() -> None:
    options = _options()
    if options.threads:
        results: dict[str, Any] = {"threads": count_threads(options.threads)}
    else:
        clock = time.perf_counter if options.wall else time.process_time
        parts: dict[str, Callable[[], Any]] = {
            "primitives": primitives,
            "phases": lambda: phases(options.rounds, clock),
            "modules": lambda: modules(5 if options.full else options.rounds, clock, full=options.full),
        }
        results = {name: part() for name, part in parts.items() if options.only in (None, name)}
    print(json.dumps(results, indent=2) if options.json else as_markdown(results))


def primitives() -> dict[str, float]:
    """Return nanoseconds of what a scope is made of and of what stays in a model's code."""
    log = TimingLogger(tempfile.mkdtemp(), enable_console=False, enable_file=False)
    scope = log.scope("a")
    taken = []
    for _ in range(300):
        began = time.perf_counter_ns()
        for _ in range(500):
            with scope:
                pass
        taken.append((time.perf_counter_ns() - began) / 500)
        log.step()
    log.close()
    return {
        "reused scope": statistics.median(taken),
        "perf_counter_ns": _ns("f()", time.perf_counter_ns),
        "log_timing without a logger": _ns("f('a', 1.0)", log_timing),
        "an empty call": _ns("f('a', 1.0)", _empty),
    }


def _empty(name: str, milliseconds: float) -> None:
    pass


def _ns(statement: str, function: Callable[..., object]) -> float:
    return 1e4 * statistics.median(
        timeit.repeat(statement, globals={"f": function}, number=100_000, repeat=9)
    )


def phases(rounds: int, clock: Clock, steps: int = 50) -> list[dict[str, Any]]:
    """Return what timing five phases adds to a step of about 5 ms; 50 steps are one flush of the files."""
    turns = int(100_000 / min(timeit.repeat("for _ in range(100_000): pass", number=1, repeat=9)) / 1000)

    def work() -> None:
        for _ in range(turns):
            pass

    ways: dict[str, Way] = {
        "nothing": lambda: _with_phases(work, lambda phase: contextlib.nullcontext()),
        "deblurkit, files written": lambda: _ours(work),
        "perf_counter into a dict": lambda: _with_phases(work, _dict_profiler()),
        "torch.profiler": lambda: _by_torch_profiler(work),
    }
    profiled = {name: ways[name] for name in ("nothing", "torch.profiler")}  # it is on for all while it is on
    beside = {name: way for name, way in ways.items() if name != "torch.profiler"}
    whole = _compare(profiled, clock, rounds=rounds, steps=steps)
    return _compare_step_by_step(beside, clock, rounds=2 * rounds, steps=steps) + whole[1:]


@contextlib.contextmanager
def _with_phases(
    work: Step, scope: Callable[[str], contextlib.AbstractContextManager[Any]]
) -> Iterator[Step]:
    def step() -> None:
        for phase in PHASES:
            with scope(phase):
                work()

    yield step


@contextlib.contextmanager
def _ours(work: Step) -> Iterator[Step]:
    with tempfile.TemporaryDirectory() as folder:
        log = TimingLogger(folder, enable_console=False)
        scopes = [log.scope(phase) for phase in PHASES]

        def step() -> None:
            for scope in scopes:
                with scope:
                    work()
            log.step()

        yield step
        log.close()


def _dict_profiler() -> Callable[[str], contextlib.AbstractContextManager[None]]:
    """Return a profiler like Lightning's SimpleProfiler: generator scopes that fill lists of durations."""
    durations: dict[str, list[float]] = defaultdict(list)

    @contextlib.contextmanager
    def profile(action: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            durations[action].append(time.perf_counter() - began)

    return profile


@contextlib.contextmanager
def _by_torch_profiler(work: Step) -> Iterator[Step]:
    import torch

    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]),
        _with_phases(work, torch.profiler.record_function) as step,
    ):
        yield step


def modules(rounds: int, clock: Clock, *, full: bool) -> list[dict[str, Any]]:
    """Return what timing every block of VRT, forward and backward, adds to a training step on this CPU."""
    import torch
    from vrt_step import GOPRO

    from deblurkit.models.vrt.blocks import Block
    from deblurkit.models.vrt.network import VRT

    torch.manual_seed(1)
    small = {"depths": [2] * 7 + [1] * 4, "embed_dims": [24] * 7 + [36] * 4, "deformable_groups": 4}
    model = VRT(**(GOPRO if full else GOPRO | small), drop_path_rate=0.0)
    clip = torch.rand(1, 6, 3, 64, 64)
    blocks = {
        module: name.replace(".", "/") for name, module in model.named_modules() if isinstance(module, Block)
    }

    def work() -> None:
        model(clip).square().mean().backward()
        model.zero_grad(set_to_none=True)

    ways: dict[str, Way] = {
        "nothing": lambda: contextlib.nullcontext(work),
        "deblurkit, files written": lambda: _module_times(blocks, work),
        "forward and full-backward hooks": lambda: _full_backward_hooks(blocks, work),
        "torch.profiler": lambda: _whole_profiler(work),
    }
    return _compare(ways, clock, rounds=rounds, steps=1)


@contextlib.contextmanager
def _module_times(blocks: dict[Any, str], work: Step) -> Iterator[Step]:
    with tempfile.TemporaryDirectory() as folder:
        log = TimingLogger(folder, enable_console=False)
        times = ModuleTimes(blocks, log.clock)

        def step() -> None:
            times.begin()
            work()
            log.log_spans(times.take())
            log.step()

        yield step
        times.remove()
        log.close()


@contextlib.contextmanager
def _full_backward_hooks(blocks: dict[Any, str], work: Step) -> Iterator[Step]:
    marks: list[tuple[int, int]] = []

    def note(module: Any, *others: Any) -> None:
        marks.append((id(module), time.perf_counter_ns()))

    handles = [
        register(note)
        for block in blocks
        for register in (
            block.register_forward_pre_hook,
            block.register_forward_hook,
            block.register_full_backward_pre_hook,
            block.register_full_backward_hook,
        )
    ]
    yield work
    for handle in handles:
        handle.remove()


@contextlib.contextmanager
def _whole_profiler(work: Step) -> Iterator[Step]:
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        yield work


def _compare(ways: dict[str, Way], clock: Clock, *, rounds: int, steps: int) -> list[dict[str, Any]]:
    """Return median milliseconds a step, and the median ratio to the first way in the same round.

    All ways run in every round, each time in another order.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + 1):
        order = names[number % len(names) :] + names[: number % len(names)]
        for name in order:
            with ways[name]() as step:
                step()
                began = clock()
                for _ in range(steps):
                    step()
                seconds = clock() - began
            if number:  # the first round warms up
                taken[name].append(1000 * seconds / steps)
    return _ratios(taken)


def _ratios(taken: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return the median of each way, and of its ratio to the first way in the same round."""
    plain = next(iter(taken.values()))
    return [
        {
            "way": name,
            "ms_per_step": statistics.median(values),
            "ratio": statistics.median(own / first for own, first in zip(values, plain, strict=True)),
        }
        for name, values in taken.items()
    ]


def _compare_step_by_step(
    ways: dict[str, Way], clock: Clock, *, rounds: int, steps: int
) -> list[dict[str, Any]]:
    """As `_compare`, but one step of each way after the other: the machine's own speed cancels out."""
    names = list(ways)
    taken: dict[str, list[float]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        opened = {name: stack.enter_context(way()) for name, way in ways.items()}
        for number in range(rounds + 1):
            spent = dict.fromkeys(names, 0.0)
            for turn in range(steps):
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    began = clock()
                    opened[name]()
                    spent[name] += clock() - began
            if number:  # the first round warms up
                for name in names:
                    taken[name].append(1000 * spent[name] / steps)
    return _ratios(taken)


def count_threads(seconds: float, num_threads: int = 8) -> dict[str, Any]:
    """Return how many times 8 threads logged and how many arrived, while steps are closed beside them."""
    with tempfile.TemporaryDirectory() as folder:
        clock = _Counting()
        log = TimingLogger(folder, enable_console=False, clock=clock)
        set_global_timing_logger(log)
        logged = [0] * num_threads
        end = time.monotonic() + seconds

        def work(number: int) -> None:
            scope = log.scope("scope")
            while time.monotonic() < end:
                for _ in range(200):
                    log_timing("logged", 1.0)
                    with scope:
                        pass
                logged[number] += 200

        threads = [threading.Thread(target=work, args=(number,)) for number in range(num_threads)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            log.step()
            time.sleep(0.002)
        log.step()
        arrived = _arrived(log)
        set_global_timing_logger(None)
        log.close()
    return {"seconds": seconds, "logged": sum(logged), **arrived, "steps": log.steps_done}


class _Counting:
    """A clock on which scopes of other threads take a millisecond, and steps a million seconds."""

    name = "counting"
    mark = staticmethod(threading.get_ident)

    def elapsed(self, start: int, end: int) -> float:
        return 1e6 if start == threading.main_thread().ident else 0.001

    def release(self, marks: Any) -> None:
        pass

    def wait(self) -> None:
        pass


def _arrived(log: TimingLogger) -> dict[str, int]:
    rows = log.statistics
    return {f"arrived by {name}": round(rows[name].total) for name in ("logged", "scope")}


def as_markdown(results: dict[str, Any]) -> str:
    """Return the results as tables."""
    lines: list[str] = []
    for title, content in results.items():
        if isinstance(content, dict):
            unit = "ns" if title == "primitives" else "count"
            lines += [f"| {title} | {unit} |", "|---|---:|"]
            lines += [f"| {name} | {value:,.0f} |" for name, value in content.items()]
        else:
            lines += [f"| {title} | ms a step | ratio |", "|---|---:|---:|"]
            lines += [f"| {row['way']} | {row['ms_per_step']:.3f} | {row['ratio']:.4f} |" for row in content]
        lines.append("")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--full", action="store_true", help="VRT of the paper, 5 rounds")
    parser.add_argument("--wall", action="store_true", help="wall time, for a machine that is idle")
    parser.add_argument("--only", choices=["primitives", "phases", "modules"])
    parser.add_argument("--threads", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
