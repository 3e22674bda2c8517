"""Memory of a training step: predicted on fake tensors against measured on real ones, on the CPU.

Three networks, with nothing, attention, or attention and MLPs recomputed, in float32 and bfloat16, with one
and two clips: peak bytes of tensors, their ratio, and the seconds of the prediction. Both follow storages by
the same tracker; what is tested is that shapes alone give the same tensors. Autocast is taken as a GPU takes
it, also where this CPU has no 16-bit products. Unless --full is given, networks and clips are small.

Every case has a process of its own, so that one that crashes is a row too. With --output a case that is in
the file already is not run again, but for those that crashed.

    python benchmarks/memory_prediction.py --output cases.jsonl   # 36 cases; can be stopped
    python benchmarks/memory_prediction.py --full                 # GoPro sizes, 6x64x64: 16 GiB and an hour
    python benchmarks/memory_prediction.py --networks frames --batches 1 --json
    python benchmarks/memory_prediction.py --table                # 6x192x192 beside the plain VRT
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

SMALL = [
    "DATA.CLIP_LEN=3",
    "DATA.CROP_SIZE=48",
    "MODEL.VRT_DEPTHS=[2, 2, 2, 2, 2, 2, 2, 2]",
    "MODEL.VRT.EMBED_DIMS=[24, 24]",
    "MODEL.VRT.NUM_HEADS=2",
    "MODEL.WINDOW_SIZE=[2, 4, 4]",
]
FULL = [
    "DATA.CLIP_LEN=6",
    "DATA.CROP_SIZE=64",
    "MODEL.VRT_DEPTHS=[8, 8, 8, 8, 8, 8, 8, 4, 4, 4, 4]",
    "MODEL.VRT.EMBED_DIMS=[96, 120]",
    "MODEL.VRT.NUM_HEADS=6",
    "MODEL.VRT.DEFORMABLE_GROUPS=16",
    "MODEL.CHANNELS_PER_SCALE=[96, 96, 96, 96]",
    "MODEL.WINDOW_SIZE=[6, 8, 8]",
]
NETWORKS = {
    "frames": ["MODEL.USE_SPIKE=false"],
    "spikes": ["MODEL.USE_SPIKE=true"],
    "four neighbours": ["MODEL.USE_SPIKE=false", "MODEL.VRT.PA_FRAMES=4"],
}
CHECKPOINTING = {"none": (False, False), "attention": (True, False), "both": (True, True)}
PRECISIONS = {"float32": False, "bf16": True}


# The plain VRT after forward and at its peak [GiB], by specs/memory.md: attention matrices kept, 6x192x192.
TABLE = {
    ("none", "float32"): (100.0, 100.3),
    ("attention", "float32"): (46.7, 47.1),
    ("both", "float32"): (17.4, 21.6),
    ("both", "bf16"): (9.9, 14.9),
    ("none", "bf16"): (81.5, 81.6),
}
COLUMNS = ("network", "checkpointing", "precision", "batch")


def main() -> None:
    options = _options()
    if options.table:
        _show_table()
    else:
        results = _all_cases(options)
        if options.json:
            print(json.dumps(results, indent=2))
        else:
            _show(results)


def _all_cases(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row of each case, from the file of results or from a process of its own."""
    cases = list(itertools.product(options.networks, CHECKPOINTING, options.precisions, options.batches))
    known = _known(options.output, full=options.full)
    results = []
    for number, case in enumerate(cases, start=1):
        row = known.get(case) or _in_a_child(case, full=options.full)
        if case not in known and options.output:
            with options.output.open("a", encoding="utf-8") as file:
                print(json.dumps(row), file=file)
        results.append(row)
        print(f"  {number} of {len(cases)}: {row}", file=sys.stderr)
    return results


def _known(path: Path | None, *, full: bool) -> dict[tuple[Any, ...], dict[str, Any]]:
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    whole = [row for row in rows if "ratio" in row and row["full"] == full]
    return {tuple(row[name] for name in COLUMNS): row for row in whole}


def _in_a_child(case: tuple[Any, ...], *, full: bool) -> dict[str, Any]:
    """Return the row of a case from a fork of this process, which does nothing with tensors itself."""
    import deblurkit.tuning.step_memory  # noqa: F401 - once, for all forks

    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    child = fork.Process(target=_send_case, args=(there, case, full))
    child.start()
    there.close()
    with contextlib.suppress(EOFError):
        return dict(here.recv())
    child.join()
    code = child.exitcode or 0
    how = f"crashed: {signal.Signals(-code).name}" if code < 0 else f"failed: exit status {code}"
    return {**dict(zip(COLUMNS, case, strict=True)), "full": full, "crash": how}


def _send_case(there: Any, case: tuple[Any, ...], full: bool) -> None:
    there.send(_case(*case, full=full))


def _case(network: str, checkpointing: str, precision: str, batch: int, *, full: bool) -> dict[str, Any]:
    from deblurkit.tuning.step_memory import measure_step, predict_step

    sizes = [*(FULL if full else SMALL), *NETWORKS[network]]
    config, kind = _setting(sizes, checkpointing, precision, batch)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    predicted = predict_step(config, device_kind=kind)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    measured = measure_step(config, device_kind=kind)
    return {
        "network": network,
        "checkpointing": checkpointing,
        "precision": precision,
        "batch": batch,
        "full": full,
        "predicted": predicted.step_peak_bytes,
        "measured": measured.step_peak_bytes,
        "ratio": predicted.step_peak_bytes / measured.step_peak_bytes,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "process_peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def _setting(sizes: list[str], checkpointing: str, precision: str, batch: int) -> tuple[Any, Any]:
    """Return the configuration, and the kind of device whose autocast and chunks are taken."""
    from deblurkit.config.load import load_config

    attention, mlp = CHECKPOINTING[checkpointing]
    settings = {
        "MODEL.VRT.USE_CHECKPOINT_ATTN": attention,
        "MODEL.VRT.USE_CHECKPOINT_FFN": mlp,
        "TRAIN.AMP_ENABLED": PRECISIONS[precision],
        "TRAIN.BATCH_SIZE": batch,
        "TRAIN.DEVICE": "cpu",
    }
    chosen = [*sizes, *(f"{key}={str(value).lower()}" for key, value in settings.items())]
    config = load_config("quickstart_vrt", None, chosen, warn=lambda text: None)
    return config, "cuda" if PRECISIONS[precision] else "cpu"


def _show_table() -> None:
    from deblurkit.tuning.step_memory import predict_step

    print("| recomputed | precision | after forward [GiB] | peak [GiB] | of the plain VRT's peak | seconds |")
    print("|---|---|---:|---:|---:|---:|")
    for (checkpointing, precision), plain in TABLE.items():
        config, kind = _setting(
            [*FULL, "DATA.CROP_SIZE=192", *NETWORKS["frames"]], checkpointing, precision, 1
        )
        begin = time.process_time()
        found = predict_step(config, device_kind=kind)
        seconds = time.process_time() - begin
        ours = [count / 2**30 for count in (found.after_forward_bytes, found.step_peak_bytes)]
        cells = [f"{count:.2f} ({other:.1f})" for count, other in zip(ours, plain, strict=True)]
        share = f"{ours[1] / plain[1]:.2f}"
        print("|", " | ".join([checkpointing, precision, *cells, share, f"{seconds:.1f}"]), "|", flush=True)
    print("\nIn brackets: the plain VRT. Seconds: of one core.")


def _show(results: list[dict[str, Any]]) -> None:
    print(
        "| network | recomputed | precision | batch | predicted [MiB] | measured | ratio | CPU s | seconds |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for row in results:
        names = " | ".join(str(row[name]) for name in COLUMNS)
        if "crash" in row:
            print(f"| {names} | {row['crash']} | | | | |")
            continue
        sizes = " | ".join(f"{row[name] / 2**20:.1f}" for name in ("predicted", "measured"))
        print(f"| {names} | {sizes} | {row['ratio']:.4f} | {row['cpu_seconds']:.1f} | {row['seconds']:.1f} |")
    whole = [row for row in results if "ratio" in row]
    print(f"\n{len(whole)} of {len(results)} cases measured")
    if whole:
        worst = max(whole, key=lambda row: abs(row["ratio"] - 1))
        slowest = max(whole, key=lambda row: row["cpu_seconds"])
        print(
            f"furthest apart: {100 * abs(worst['ratio'] - 1):.2f} %; slowest prediction:"
            f" {slowest['cpu_seconds']:.1f} s of one core ({slowest['seconds']:.1f} s)"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--full", action="store_true", help="GoPro sizes")
    parser.add_argument("--output", type=Path, help="JSON lines of cases, gone on with where it exists")
    parser.add_argument("--table", action="store_true", help="6x192x192, beside the plain VRT")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
