"""How quickly a text timing log is read, and in how much memory, beside other ways to read it.

A log as the first scripts wrote it is generated: 25 rows with Chinese names, about 2,287 bytes a step. Each
way reads it in a process of its own, they take turns, and the medians of all rounds are shown. All of them
have to find the same steps and the same sum of all times, or the script says so and ends with code 1.
Speed is in CPU time of the process, which other processes disturb less; ``--wall`` for wall time.

    python benchmarks/log_parsing.py                   # 1 GB, 3 rounds: a quarter of an hour
    python benchmarks/log_parsing.py --mb 200 --rounds 5
    python benchmarks/log_parsing.py --json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TREE = {
    "VRT处理": [f"Stage{stage}" for stage in range(1, 9)],
    "Spike时间自注意力": ["维度转换", "Self-Attention总时间", "FFN前馈网络总时间"],
    "Spike编码器": ["输入维度转换", "尺度一投影残差下采样", "尺度二投影残差下采样"],
    "VRT融合": ["编码阶段逐层融合", "瓶颈层与解码阶段融合", "重建层与输出融合"],
}
USUAL_MS = {"VRT处理": 150.0, "Spike时间自注意力": 80.0, "Spike编码器": 50.0, "VRT融合": 60.0}
WHOLE = "前向传播总耗时"
OTHERS = {"数据加载与传输": 3.0, "损失函数计算": 9.0, "指标计算与日志记录": 1.0}
RULE = "=" * 80
ROW = r"^( *- )?(.*?) *: +([\d.]+)ms (?:\(|\[)"  # of all ways but ours
LINES_AT_A_TIME = 500_000  # of pandas and polars, so that they fit into the memory of any machine


def main() -> None:
    options = _options()
    if options.read:
        print(json.dumps(measured(options.read, options.path, wall=options.wall)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timing_1760698920.log"
        log = generate(path, megabytes=options.mb, seed=options.seed)
        results = compare(path, rounds=options.rounds, only=options.only, wall=options.wall)
    report = {"log": log, "rounds": options.rounds, "readers": results}
    print(json.dumps(report, indent=2) if options.json else as_markdown(report))
    found = {(one["steps"], round(one["sum_ms"] / log["sum_ms"], 6)) for one in results if "steps" in one}
    if found != {(log["steps"], 1.0)}:
        sys.exit(f"not all read what is in the log: {sorted(found)}")


def generate(path: Path, *, megabytes: float, seed: int) -> dict[str, Any]:
    """Write a log and return what is in it: ``bytes``, ``steps`` and ``sum_ms``, the sum of all times."""
    done, size, hundredths = 0, 0, 0
    averages: dict[str, float] = {}
    with path.open("wb") as file:
        for times in _times(seed):
            done += 1
            text, sum_of_step = _step(done, times, averages)
            size += file.write(text.encode())
            hundredths += sum_of_step
            if size >= megabytes * 1e6:
                return {"bytes": size, "steps": done, "sum_ms": hundredths / 100}
    raise AssertionError("times never end")


def _times(seed: int) -> Iterator[dict[str, float]]:
    """Yield the milliseconds of one step after the other, by full name, parents with their parts."""
    import numpy as np

    rng = np.random.default_rng(seed)
    usual = {
        f"{top}/{part}": 0.9 * USUAL_MS[top] / len(parts) for top, parts in TREE.items() for part in parts
    }
    usual |= OTHERS | dict.fromkeys(TREE, 0.0)
    while True:
        for noise in rng.lognormal(0, 0.15, (1000, len(usual))).tolist():
            times = {name: ms * factor for (name, ms), factor in zip(usual.items(), noise, strict=True)}
            for top, factor in zip(TREE, noise, strict=False):
                times[top] = sum(times[f"{top}/{part}"] for part in TREE[top]) * (1 + factor / 10)
            times[WHOLE] = 1.01 * sum(times[top] for top in TREE)
            yield times


def _step(number: int, times: dict[str, float], sums: dict[str, float]) -> tuple[str, int]:
    """Return the block of a step, longest rows first, and the sum of its printed times in hundredths."""
    for name, ms in times.items():
        sums[name] = sums.get(name, 0.0) + ms
    tops = sorted((WHOLE, *TREE, *OTHERS), key=times.__getitem__, reverse=True)
    total = sum(times[top] for top in tops)
    lines = [RULE, f"Step {number}", RULE]
    printed = 0
    for top in tops:
        parts = sorted(TREE.get(top, ()), key=lambda part: times[f"{top}/{part}"], reverse=True)
        for name, label in ((top, f"{top:<40}"), *((f"{top}/{part}", f"  - {part:<36}") for part in parts)):
            ms = f"{times[name]:8.2f}"
            printed += int(ms.replace(".", ""))
            share = f" ({100 * times[name] / total:5.1f}%)" if name == top else ""
            lines.append(f"{label}: {ms}ms{share} [avg: {sums[name] / number:8.2f}ms]")
    return "\n".join([*lines, f"{'Total':-<40}: {total:8.2f}ms", ""]), printed


def compare(path: Path, *, rounds: int, only: list[str], wall: bool) -> list[dict[str, Any]]:
    """Return the medians of each way to read a log: megabytes a second and memory."""
    path.read_bytes()  # so that nobody waits for the disk
    names = [name for name in READERS if not only or name in only]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            runs[name].append(_in_own_process(name, path, wall=wall))
    results = [_medians(name, found, path.stat().st_size) for name, found in runs.items()]
    plain = next((one.get("megabytes_per_second") for one in results if one["reader"] == PLAIN), None)
    for one in results:
        if plain and "steps" in one:
            one["times_plain_regex"] = one["megabytes_per_second"] / plain
    return results


def _in_own_process(name: str, path: Path, *, wall: bool) -> dict[str, Any]:
    environment = os.environ | {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--read", name, "--path", str(path), *(["--wall"] if wall else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _medians(name: str, runs: list[dict[str, Any]], size: int) -> dict[str, Any]:
    if "missing" in runs[0]:
        return {"reader": name, **runs[0]}
    middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    speed = size / 1e6 / middle.pop("seconds")
    return {"reader": name, "megabytes_per_second": speed, **middle}


def measured(name: str, path: Path, *, wall: bool) -> dict[str, Any]:
    """Return what reading a log in this process takes: seconds, and memory in MB.

    ``above_bare_mb`` is the peak above the interpreter as it starts, ``above_imports_mb`` above the
    interpreter with all that the reader imports.
    """
    bare = _memory_mb("VmRSS")
    try:
        read = READERS[name]()
    except ModuleNotFoundError as error:
        return {"missing": f"{error.name} is not installed"}
    with_imports = _memory_mb("VmRSS")
    clock = time.perf_counter if wall else time.process_time
    began = clock()
    steps, add_up = read(path)
    seconds = clock() - began
    peak = _memory_mb("VmHWM")
    memory = {"above_bare_mb": peak - bare, "above_imports_mb": peak - with_imports}
    return {"seconds": seconds, **memory, "steps": steps, "sum_ms": add_up()}


def _memory_mb(field: str) -> float:
    """Return a field of Linux's account of this process; unlike ``ru_maxrss`` it is none of its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


Read = Callable[[Path], tuple[int, Callable[[], float]]]  # the steps, and what adds up all times


def _ours() -> Read:
    from deblurkit.analysis.readers import read_log

    def read(path: Path) -> tuple[int, Callable[[], float]]:
        log = read_log(path)
        columns = [log.times[name].to_numpy() for name in log.times]
        return log.num_steps, lambda: float(sum(column.sum(dtype="float64") for column in columns))

    return read


def _plain_regex() -> Read:
    import re

    row, step = re.compile(ROW), re.compile(r"^Step (\d+)")

    def read(path: Path) -> tuple[int, Callable[[], float]]:
        columns: dict[str, array[float]] = {}
        steps, parent = 0, ""
        with path.open(encoding="utf-8") as file:
            for line in file:
                if (found := row.match(line)) is not None:
                    indent, name, value = found.groups()
                    name = f"{parent}/{name}" if indent else name
                    parent = parent if indent else name
                    columns.setdefault(name, array("f")).append(float(value))
                elif step.match(line) is not None:
                    steps += 1
        return steps, lambda: sum(map(sum, columns.values()))

    return read


def _parts(path: Path) -> Iterator[list[str]]:
    import itertools

    with path.open(encoding="utf-8") as file:
        while lines := list(itertools.islice(file, LINES_AT_A_TIME)):
            yield lines


def _pandas() -> Read:
    import pandas as pd

    def read(path: Path) -> tuple[int, Callable[[], float]]:
        steps, parts = 0, []
        for lines in _parts(path):
            text = pd.Series(lines)
            steps += int(text.str.startswith("Step ").sum())
            rows = text.str.extract(ROW).dropna(subset=[2])
            parent = rows[1].where(rows[0].isna()).ffill()
            name = rows[1].where(rows[0].isna(), parent + "/" + rows[1]).astype("category")
            parts.append(pd.DataFrame({"name": name, "ms": rows[2].astype("float32")}))
        return steps, lambda: sum(float(part["ms"].astype("float64").sum()) for part in parts)

    return read


def _polars() -> Read:
    import polars as pl

    def read(path: Path) -> tuple[int, Callable[[], float]]:
        steps, parts = 0, []
        line = pl.col("line")
        fields = line.str.extract_groups(ROW).struct.rename_fields(["indent", "name", "ms"])
        for lines in _parts(path):
            frame = pl.DataFrame({"line": lines})
            steps += frame.filter(line.str.starts_with("Step ")).height
            rows = frame.select(fields).unnest("line").drop_nulls("ms")
            parent = pl.when(pl.col("indent").is_null()).then(pl.col("name")).forward_fill()
            name = (
                pl.when(pl.col("indent").is_null())
                .then(pl.col("name"))
                .otherwise(parent + "/" + pl.col("name"))
            )
            parts.append(rows.select(name.cast(pl.Categorical), pl.col("ms").cast(pl.Float32)))
        return steps, lambda: sum(part["ms"].cast(pl.Float64).sum() for part in parts)

    return read


PLAIN = "plain regex, line by line"
READERS: dict[str, Callable[[], Read]] = {
    "deblurkit": _ours,
    PLAIN: _plain_regex,
    "pandas str.extract": _pandas,
    "polars str.extract, one thread": _polars,
}


def as_markdown(report: dict[str, Any]) -> str:
    log = report["log"]
    lines = [
        f"{log['bytes'] / 1e6:,.0f} MB, {log['steps']:,} steps of {log['bytes'] / log['steps']:,.0f} bytes,"
        f" medians of {report['rounds']} rounds that take turns",
        "",
        "| reader | MB/s | times the plain regex | MB above the interpreter | and above its imports |",
        "|---|---|---|---|---|",
    ]
    for one in report["readers"]:
        cells = [one.get("missing", "not measured"), "", "", ""]
        if "steps" in one:
            ratio = one.get("times_plain_regex")
            cells = [
                f"{one['megabytes_per_second']:.1f}",
                f"{ratio:.2f}" if ratio else "",
                f"{one['above_bare_mb']:.0f}",
                f"{one['above_imports_mb']:.0f}",
            ]
        lines.append(f"| {one['reader']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mb", type=float, default=1000, help="size of the log; 1000 if not given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], metavar="READER", help=", ".join(READERS))
    parser.add_argument("--wall", action="store_true", help="wall time instead of the process's own")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
