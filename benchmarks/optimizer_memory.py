"""AdamW against AdamW in 8 bits: bytes of their states on the GoPro VRT, and what training makes of it.

States: VRT in its published GoPro sizes, one step of each optimiser on random gradients; all tensors that it
holds are counted. bitsandbytes keeps tensors of fewer than 4096 elements in 32 bits. Loss: the quickstart
preset with each, on the same data and seed; curves are smoothed over WINDOW steps, and from the first whole
window on compared step by step.

    python benchmarks/optimizer_memory.py               # both, some minutes
    python benchmarks/optimizer_memory.py --steps 0     # states only
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

KINDS = ("adamw", "adamw8bit")
WINDOW = 20
_LOSS = re.compile(r"step (\d+)/\d+ \| loss=([0-9.]+)")


def main() -> None:
    options = _options()
    results: dict[str, Any] = {"states": {kind: _states(kind) for kind in KINDS}}
    plain, small = (results["states"][kind]["bytes"] for kind in KINDS)
    results["state_ratio"] = small / plain
    if options.steps:
        curves = _curves(options.steps, options.seed)
        results["loss"] = _compared(*(curves[kind] for kind in KINDS))
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        _show(results)


def _show(results: dict[str, Any]) -> None:
    print("| | adamw | adamw8bit | ratio |\n|---|---:|---:|---:|")
    plain, small = (results["states"][kind] for kind in KINDS)
    mib = (plain["bytes"] / 2**20, small["bytes"] / 2**20)
    print(f"| optimiser states [MiB] | {mib[0]:.1f} | {mib[1]:.1f} | {results['state_ratio']:.3f} |")
    ratio = small["step_ms"] / plain["step_ms"]
    print(f"| optimiser step [ms] | {plain['step_ms']:.0f} | {small['step_ms']:.0f} | {ratio:.2f} |")
    if loss := results.get("loss"):
        ratio = loss["last"][1] / loss["last"][0]
        print(f"| smoothed loss at the end | {loss['last'][0]:.5f} | {loss['last'][1]:.5f} | {ratio:.4f} |")
    print(
        f"\n{plain['parameters']:,} parameters, {small['in_32_bits']:,} of them in tensors that keep 32 bits"
    )
    if loss:
        print(
            f"loss curves of {loss['steps']} steps, smoothed over {WINDOW}: {100 * loss['mean']:.2f} % apart"
            f" in the mean, {100 * loss['worst']:.2f} % at most (step {loss['worst_step']})"
        )


def _states(kind: str) -> dict[str, Any]:
    import torch
    from vrt_step import GOPRO

    from deblurkit.config.sections.train import OptimSection
    from deblurkit.models.vrt.network import VRT
    from deblurkit.training.optim import build_optimizer

    torch.manual_seed(1)
    model = VRT(**GOPRO)
    section = OptimSection.model_validate({"TYPE": kind})
    optimizer = build_optimizer(section, model, device=torch.device("cpu"), warn=sys.exit)
    for weights in model.parameters():
        weights.grad = torch.randn_like(weights) * 1e-3
    optimizer.step()  # makes the states
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        optimizer.step()
        taken.append(time.perf_counter() - start)
    states = optimizer.state.values()
    shared: dict[int, int] = {}  # bitsandbytes' table of values is one tensor that all states name
    for state in states:
        for tensor in state.values():
            if isinstance(tensor, torch.Tensor):
                shared[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return {
        "bytes": sum(shared.values()),
        "step_ms": 1e3 * sorted(taken)[2],
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "in_32_bits": sum(weights.numel() for weights in model.parameters() if weights.numel() < 4096),
    }


def _curves(steps: int, seed: int) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        return {kind: _losses(kind, Path(folder), steps, seed) for kind in KINDS}


def _losses(kind: str, folder: Path, steps: int, seed: int) -> list[float]:
    """Return the loss of every step of a quickstart run in a process of its own."""
    settings = {
        "TRAIN.OPTIM.TYPE": kind,
        "TRAIN.MAX_STEPS": steps,
        "SEED": seed,
        "DATA.ROOT": folder / "data",
        "LOG.TIMING_CONSOLE_INTERVAL": 1,
        "LOG.TENSORBOARD": "false",
    }
    command = [sys.executable, "-m", "deblurkit", "train", "--preset", "quickstart"]
    command += ["--output", str(folder / kind)]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (log,) = (folder / kind / "logs").glob("train_*.log")
    found = dict(_LOSS.findall(log.read_text(encoding="utf-8")))
    return [float(found[str(step)]) for step in range(1, steps + 1)]


def _compared(plain: list[float], small: list[float]) -> dict[str, Any]:
    a, b = _smoothed(plain), _smoothed(small)
    apart = [abs(y - x) / x for x, y in zip(a, b, strict=True)]
    worst = max(range(len(apart)), key=apart.__getitem__)
    return {
        "steps": len(plain),
        "last": (a[-1], b[-1]),
        "mean": sum(apart) / len(apart),
        "worst": apart[worst],
        "worst_step": worst + WINDOW,
        "curves": {"adamw": a, "adamw8bit": b},
    }


def _smoothed(values: list[float]) -> list[float]:
    return [sum(values[end - WINDOW : end]) / WINDOW for end in range(WINDOW, len(values) + 1)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="of each quickstart run; 0: states only")
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
