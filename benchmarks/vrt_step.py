"""A step of VRT against the plain reference of `plain_vrt.py`: time and live tensor memory.

That the numbers are equal is held by tests/models/vrt. Ratios are medians of rounds in which they take turns.
Each runs in a process of its own, started anew for every mode. "deblurkit" is the network alone, in a process
like the plain one's; "deblurkit train" keeps freed memory as that command does on a CPU.

    python benchmarks/vrt_step.py                    # GoPro sizes, 6x64x64, float32
    python benchmarks/vrt_step.py --dtype bf16
    python benchmarks/vrt_step.py --device cuda --size 192 --dtype tf32 --compile
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOPRO: dict[str, Any] = {
    "window_size": (6, 8, 8),
    "depths": [8] * 7 + [4] * 4,
    "indep_reconsts": [9, 10],
    "embed_dims": [96] * 7 + [120] * 4,
    "num_heads": [6] * 11,
    "pa_frames": 2,
    "deformable_groups": 16,
}
MODES = ("inference", "forward", "step")
NETWORKS = ("plain", "deblurkit", "deblurkit train")


def main() -> None:
    options = _options()
    if options.child:
        print(json.dumps(_measure(options)))
        return
    results: dict[str, Any] = {}
    for mode in options.modes:
        seconds: dict[str, list[float]] = {name: [] for name in NETWORKS}
        for round_number in range(options.rounds):
            for name in NETWORKS:
                seconds[name] += _in_a_process(options, name, mode)["seconds"]
                print(f"  {mode} {round_number + 1} {name}: {seconds[name][-1]:.2f} s", file=sys.stderr)
        results[mode] = {name: statistics.median(taken) for name, taken in seconds.items()}
    results["peak_bytes"] = {name: _in_a_process(options, name, "memory")["peak"] for name in NETWORKS[:2]}
    _show(options, results)


def _show(options: argparse.Namespace, results: dict[str, Any]) -> None:
    if options.json:
        print(json.dumps(results, indent=2))
        return
    print(f"6x{options.size}x{options.size}, {options.dtype}, {options.device}, {options.rounds} rounds\n")
    print("| | plain | deblurkit | ratio | deblurkit train | ratio |\n|---|---:|---:|---:|---:|---:|")
    names = {
        "inference": "forward, no graph [s]",
        "forward": "forward, training [s]",
        "step": "forward + backward [s]",
    }
    for mode in options.modes:
        plain, ours, kept = (results[mode][name] for name in NETWORKS)
        ratios = f"{ours:.2f} | {plain / ours:.2f} | {kept:.2f} | {plain / kept:.2f}"
        print(f"| {names[mode]} | {plain:.2f} | {ratios} |")
    plain, ours = (results["peak_bytes"][name] / 2**30 for name in NETWORKS[:2])
    print(f"| peak tensors [GiB] | {plain:.2f} | {ours:.2f} | {ours / plain:.2f} of it | | |")


def _in_a_process(options: argparse.Namespace, name: str, mode: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", name, "--mode", mode, "--size", str(options.size)]
    command += ["--dtype", options.dtype, "--device", options.device] + ["--compile"] * options.compile
    command += ["--seed", str(options.seed)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.manual_seed(options.seed)
    if options.dtype == "tf32":
        torch.set_float32_matmul_precision("high")
    model = _network(options.child).to(options.device)
    clip = torch.rand(1, 6, 3, options.size, options.size, device=options.device)
    if options.compile:
        model.compile()
    run = _runner(options, model, clip)
    if options.mode == "memory":
        return {"peak": _peak_tensor_bytes(run, options.device)}
    for _ in range(options.warm_up):
        run()
    return {"seconds": [_seconds(run, options.device) for _ in range(options.repeats)]}


def _network(name: str) -> Any:
    sys.path.insert(0, str(Path(__file__).parent))
    if name == "plain":
        from plain_vrt import PlainVRT

        return PlainVRT(**GOPRO)
    from deblurkit.models.vrt.network import VRT
    from deblurkit.training.allocator import keep_freed_memory

    if name == "deblurkit train":
        keep_freed_memory()
    return VRT(**GOPRO, drop_path_rate=0.0)


def _runner(options: argparse.Namespace, model: Any, clip: Any) -> Callable[[], None]:
    import torch

    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(options.dtype)

    def forward() -> Any:
        with torch.autocast(options.device, dtype=half, enabled=half is not None):
            return model(clip)

    def inference() -> None:
        with torch.no_grad():
            forward()

    def step() -> None:
        forward().float().square().mean().backward()
        model.zero_grad(set_to_none=True)

    return {"inference": inference, "forward": forward, "step": step, "memory": step}[options.mode]


def _seconds(run: Callable[[], Any], device: str) -> float:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _peak_tensor_bytes(run: Callable[[], Any], device: str) -> int:
    """Return the most bytes that live tensors held during ``run``, weights not counted."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before

    class Live(TorchDispatchMode):
        """Follows every storage that an operator returns to its end; not what custom operators use inside."""

        def __init__(self) -> None:
            super().__init__()
            self.seen: set[int] = set()
            self.now = self.peak = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            for tensor in torch.utils._pytree.tree_leaves(out):
                if isinstance(tensor, torch.Tensor):
                    self._meet(tensor.untyped_storage())
            return out

        def _meet(self, storage: torch.UntypedStorage) -> None:
            key = storage._cdata
            if key in self.seen:
                return
            size = storage.nbytes()
            self.seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._part, key, size)

        def _part(self, key: int, size: int) -> None:
            self.seen.discard(key)
            self.now -= size

    with Live() as live:
        run()
    return live.peak


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--dtype", choices=["float32", "tf32", "bf16", "fp16"], default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=NETWORKS, help=argparse.SUPPRESS)
    parser.add_argument("--mode", choices=[*MODES, "memory"], help=argparse.SUPPRESS)
    parser.add_argument("--warm-up", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
