"""How fast profiler traces are read, and in how much memory, beside `json.load`: medians of runs in turn.

Each run is a process of its own; MB/s of wall time (``--cpu``: of the process's own time), and memory above
what the interpreter with all imports takes. The trace is drawn by a seed in Kineto's layout, or a real one is
repeated with later times until it has the size.

    python benchmarks/trace_parsing.py                                        # 35 MB, five runs of each
    python benchmarks/trace_parsing.py --trace control.json.gz --megabytes 350
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

WAYS = ("deblurkit", "raw_decode", "json.load")
_TIME = re.compile(r'("ts": )(\d+(?:\.\d*)?)')
_STEP = re.compile(r'("ProfilerStep#)(\d+)')
_EVENTS = '"traceEvents": ['


def main() -> None:
    options = _options()
    if options.way:
        print(json.dumps(measure(options.way, Path(options.trace))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        path.write_text(make_trace(options.megabytes, options.trace, options.seed), encoding="utf-8")
        megabytes = path.stat().st_size / 1e6
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:
                runs[way].append(_in_a_process(way, path))
    print(f"{megabytes:.1f} MB, {options.rounds} runs of each in turn, medians\n")
    print(as_markdown(runs, megabytes, clock="cpu_s" if options.cpu else "wall_s"))


def make_trace(megabytes: float, source: str | None, seed: int) -> str:
    """Return a trace of at least this size."""
    header, events, footer = _parts_of(Path(source)) if source else _drawn(seed)
    size = int(megabytes * 1e6)
    length = _span_us(events)
    texts: list[str] = []
    total = 0
    while total < size:
        texts.append(_later(events, len(texts), length))
        total += len(texts[-1])
    return header + ",".join(texts) + footer


def _later(events: str, copy: int, length: float) -> str:
    """Return the text of events with ``copy`` times their span added to their times."""
    moved = _TIME.sub(lambda found: f"{found[1]}{float(found[2]) + copy * length:.3f}", events)
    return _STEP.sub(lambda found: f"{found[1]}{int(found[2]) + 1000 * copy}", moved)


def _span_us(events: str) -> float:
    times = [float(found[2]) for found in _TIME.finditer(events)]
    return max(times) - min(times) + 1_000


def _parts_of(path: Path) -> tuple[str, str, str]:
    """Return what a real trace holds before, in and behind its list of events."""
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if packed.startswith(b"\x1f\x8b") else packed).decode()
    start = text.index(_EVENTS) + len(_EVENTS)
    end = text.rindex("]", start, text.rindex('"traceName"') if '"traceName"' in text else len(text))
    return text[:start], text[start:end], text[end:]


def _drawn(seed: int) -> tuple[str, str, str]:
    """Return a trace of ten steps in Kineto's layout."""
    events = ",\n".join(_events(random.Random(seed)))
    return '{\n  "schemaVersion": 1,\n  ' + _EVENTS + "\n", events, '\n  ],\n  "baseTimeNanoseconds": 0\n}'


def _events(draw: random.Random) -> Iterator[str]:
    now = 1e9
    for step in range(10):
        began = now
        for at in range(800):
            link, length = step * 10_000 + at, draw.uniform(2, 60)
            now += draw.uniform(5, 40)
            shape = (
                '"Input Dims": [[8, 64, 128, 128], [64, 64, 3, 3], []], "Input type": ["float", "float", ""]'
            )
            yield _event("cpu_op", "aten::convolution", 100, 1, now, 20, f'"External id": {link}, {shape}')
            yield _event(
                "cpu_op", "aten::_convolution", 100, 1, now + 1, 18, f'"External id": {link}, {shape}'
            )
            yield _event(
                "cuda_runtime", "cudaLaunchKernel", 100, 1, now + 9, 6, f'"cbid": 211, "correlation": {link}'
            )
            yield _flow("s", link, 100, now + 9)
            occupancy = '"registers per thread": 40, "grid": [64, 1, 1], "block": [128, 1, 1]'
            name = "void cutlass::Kernel<cutlass_80_tensorop_s1688gemm_64x64_16x6_nn_align4>(Params)"
            yield _event(
                "kernel", name, 0, 7, now + 20, length, f'"stream": 7, "correlation": {link}, {occupancy}'
            )
            yield _flow("f", link, 0, now + 20)
        yield _event(
            "user_annotation", f"ProfilerStep#{step}", 100, 1, began, now - began, '"External id": 1'
        )


def _event(category: str, name: str, pid: int, tid: int, start: float, length: float, arguments: str) -> str:
    return (
        f'  {{\n    "ph": "X", "cat": "{category}", "name": "{name}", "pid": {pid}, "tid": {tid},\n'
        f'    "ts": {start:.3f}, "dur": {length:.3f},\n    "args": {{\n      {arguments}\n    }}\n  }}'
    )


def _flow(phase: str, link: int, pid: int, start: float) -> str:
    return (
        f'  {{\n    "ph": "{phase}", "id": {link}, "pid": {pid}, "tid": 7, "ts": {start:.3f},\n'
        '    "cat": "ac2g", "name": "ac2g"\n  }'
    )


def measure(way: str, path: Path) -> dict[str, float]:
    """Read ``path`` in one way; return seconds, and the bytes above what is there before."""
    read = {"deblurkit": _with_deblurkit, "raw_decode": _with_raw_decode, "json.load": _with_json}[way]
    from deblurkit.analysis.formats import torch_trace  # noqa: F401  imports count for none

    before, wall, cpu = _peak_bytes(), time.perf_counter(), time.process_time()
    read(path)
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "bytes": _peak_bytes() - before,
    }


def _with_deblurkit(path: Path) -> None:
    """Read the trace to a log with all its figures."""
    from deblurkit.analysis.formats.torch_trace import read_torch_trace

    with path.open("rb") as file:
        log = read_torch_trace(file, source=str(path))
    assert log.trace is not None and log.trace.kernel_us > 0


def _with_json(path: Path) -> None:
    """Decode the file, and do no more."""
    with path.open(encoding="utf-8") as file:
        assert json.load(file)["traceEvents"]


def _with_raw_decode(path: Path) -> None:
    """Decode one event after the other from windows of 4 MB, and do no more."""
    decode, blank = json.JSONDecoder().raw_decode, re.compile(r"[\s,]*")
    with path.open(encoding="utf-8") as file:
        text = file.read(1 << 22)
        at, more = text.index(_EVENTS) + len(_EVENTS), True
        while True:
            at = blank.match(text, at).end()  # type: ignore[union-attr]
            if text[at : at + 1] == "]":
                return
            try:
                _, at = decode(text, at)
            except ValueError:
                assert more
                more_text = file.read(1 << 22)
                text, at, more = text[at:] + more_text, 0, bool(more_text)


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status)[1])  # type: ignore[index]


def _in_a_process(way: str, path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--trace", str(path)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def as_markdown(runs: dict[str, list[dict[str, float]]], megabytes: float, *, clock: str) -> str:
    """Return the table."""
    middle = {
        way: {key: statistics.median(run[key] for run in of) for key in of[0]} for way, of in runs.items()
    }
    rows = [
        f"| reader | MB/s ({clock}) | to json.load | peak above the interpreter [MB] |",
        "|---|---|---|---|",
    ]
    for way, figures in middle.items():
        ratio = middle["json.load"][clock] / figures[clock]
        rows.append(
            f"| {way} | {megabytes / figures[clock]:.0f} | {ratio:.2f} x | {figures['bytes'] / 1e6:.0f} |"
        )
    return "\n".join(rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=35)
    parser.add_argument("--trace", help="a real trace, packed or not, to be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpu", action="store_true", help="count the process's own time, on a busy machine")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
