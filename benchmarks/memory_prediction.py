"""Memory of a training step: predicted on fake tensors against measured on real ones, on the CPU.

Three networks, with nothing, attention, or attention and MLPs recomputed, in float32 and bfloat16, with one
and two clips: peak bytes of tensors, their ratio, and the seconds of the prediction. Both follow storages by
the same tracker; what is tested is that shapes alone give the same tensors. Autocast is taken as a GPU takes
it, also where this CPU has no 16-bit products. Unless --full is given, networks and clips are small.

    python benchmarks/memory_prediction.py                # 36 cases
    python benchmarks/memory_prediction.py --full         # GoPro sizes, 6x64x64: 16 GiB and an hour
    python benchmarks/memory_prediction.py --networks frames --batches 1 --json
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import sys
import time
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


def main() -> None:
    options = _options()
    cases = list(itertools.product(options.networks, CHECKPOINTING, options.precisions, options.batches))
    results = []
    for number, case in enumerate(cases, start=1):
        results.append(_case(*case, full=options.full))
        print(f"  {number} of {len(cases)}: {results[-1]}", file=sys.stderr)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        _show(results)


def _case(network: str, checkpointing: str, precision: str, batch: int, *, full: bool) -> dict[str, Any]:
    from deblurkit.config.load import load_config
    from deblurkit.tuning.step_memory import measure_step, predict_step

    attention, mlp = CHECKPOINTING[checkpointing]
    settings = {
        "MODEL.VRT.USE_CHECKPOINT_ATTN": attention,
        "MODEL.VRT.USE_CHECKPOINT_FFN": mlp,
        "TRAIN.AMP_ENABLED": PRECISIONS[precision],
        "TRAIN.BATCH_SIZE": batch,
        "TRAIN.DEVICE": "cpu",
    }
    chosen = [*(FULL if full else SMALL), *NETWORKS[network]]
    chosen += [f"{key}={str(value).lower()}" for key, value in settings.items()]
    config = load_config("quickstart_vrt", None, chosen, warn=lambda text: None)
    kind = "cuda" if PRECISIONS[precision] else "cpu"
    begin, begin_cpu = time.perf_counter(), time.process_time()
    predicted = predict_step(config, device_kind=kind)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    measured = measure_step(config, device_kind=kind)
    return {
        "network": network,
        "checkpointing": checkpointing,
        "precision": precision,
        "batch": batch,
        "predicted": predicted.step_peak_bytes,
        "measured": measured.step_peak_bytes,
        "ratio": predicted.step_peak_bytes / measured.step_peak_bytes,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "process_peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def _show(results: list[dict[str, Any]]) -> None:
    print("| network | recomputed | precision | batch | predicted [MiB] | measured [MiB] | ratio | seconds |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for row in results:
        sizes = " | ".join(f"{row[name] / 2**20:.1f}" for name in ("predicted", "measured"))
        names = " | ".join(str(row[name]) for name in ("network", "checkpointing", "precision", "batch"))
        print(f"| {names} | {sizes} | {row['ratio']:.4f} | {row['seconds']:.1f} |")
    worst = max(results, key=lambda row: abs(row["ratio"] - 1))
    slowest = max(results, key=lambda row: row["seconds"])
    print(
        f"\nfurthest apart: {100 * abs(worst['ratio'] - 1):.2f} %; slowest prediction:"
        f" {slowest['seconds']:.1f} s ({slowest['cpu_seconds']:.1f} s of one core)"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--full", action="store_true", help="GoPro sizes")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
