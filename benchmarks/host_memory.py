"""Memory of the host in real runs, all processes together: predicted against measured, on the CPU.

Each case is a `deblurkit train` on synthetic data, with 0, 2 and 4 workers and on 1 and 2 ranks (gloo), long
enough for the workers to fill their queues and for a validation in between. Several times a second the
tree of its processes is looked at: the sum of their PSS, and in place of what they have mapped of shared
memory all that lies there for them (batches that wait are mapped by nobody). The largest sum is the run's.

    python benchmarks/host_memory.py                                # 18 runs, 10 to 20 minutes
    python benchmarks/host_memory.py --cases vrt --workers 2 --ranks 1 --rows
    python benchmarks/host_memory.py --json
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SHM = Path("/dev/shm")
PAUSE = 0.2  # seconds between two looks
SHORT = ["TRAIN.MAX_STEPS=16", "LOG.VAL_EVERY_STEPS=8", "TRAIN.SCHED.WARMUP_STEPS=4"]
LARGE = [*SHORT, "DATA.CROP_SIZE=96", "DATA.NUM_VOXEL_BINS=32", "DATA.CLIP_LEN=5"]
CACHED = ["DATA.USE_RAM_CACHE=true", "DATA.CACHE_SIZE_GB=1.0"]
# preset, settings, rows and columns of the frames, storage
CASES: dict[str, tuple[str, list[str], tuple[int, int], str]] = {
    "unet": ("quickstart", LARGE, (192, 256), "png"),
    "vrt": ("quickstart_vrt", SHORT, (96, 128), "png"),
    "small": ("quickstart", SHORT, (96, 128), "png"),
    "packed": ("quickstart", LARGE, (192, 256), "packed"),
    "cache": ("quickstart", [*LARGE, *CACHED], (192, 256), "png"),
}
SEQUENCES = (6, 2)  # for training, and held out
FRAMES = 10  # of each


@dataclass
class Usage:
    """A look at a tree of processes [bytes].

    Attributes:
        total: PSS without shared memory, and all shared memory of the tree; of mapped files at least what
            one process has of them, as other programs of the machine may have the same libraries mapped.
        pss: sum of PSS.
        shared: what lies in /dev/shm for the tree.
        files: mapped files in it.
        groups: how many processes of each role there are, and their PSS but for files and shared memory.
    """

    total: int = 0
    pss: int = 0
    shared: int = 0
    files: int = 0
    groups: dict[str, list[int]] = field(default_factory=dict)


def main() -> None:
    options = _options()
    results = []
    with tempfile.TemporaryDirectory(prefix="host-memory-") as name:
        cases = list(itertools.product(options.cases, options.ranks, options.workers))
        for number, (case, ranks, workers) in enumerate(cases, start=1):
            results.append(_case(Path(name), case, ranks, workers))
            told = {key: value for key, value in results[-1].items() if key not in ("rows", "groups")}
            print(f"  {number} of {len(cases)}: {told}", file=sys.stderr)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        _show(results, with_rows=options.rows)


def _case(folder: Path, case: str, ranks: int, workers: int) -> dict[str, Any]:
    preset, settings, shape, storage = CASES[case]
    root = _in_child(_dataset, folder, shape, storage)
    chosen = [
        *settings,
        f"DATA.ROOT={root}",
        f"DATALOADER.TRAIN_WORKERS={workers}",
        "DATALOADER.VAL_WORKERS=auto",
        "DATALOADER.TRAIN_PREFETCH_FACTOR=2",
        "TRAIN.DEVICE=cpu",
        f"LOG.SAVE_DIR={folder / f'run-{case}-{ranks}-{workers}'}",
    ]
    predicted = _in_child(_predicted, preset, chosen, ranks, shape, storage)
    began = time.perf_counter()
    most, largest_shared = _measured(preset, chosen, ranks)
    return {
        "case": case,
        "ranks": ranks,
        "workers": workers,
        **predicted,
        "measured": most.total,
        "ratio": predicted["predicted"] / most.total,
        "pss": most.pss,
        "files": most.files,
        "measured_shared": largest_shared,
        "seconds": round(time.perf_counter() - began, 1),
        "groups": most.groups,
    }


def _dataset(folder: Path, shape: tuple[int, int], storage: str) -> Path:
    """Return a synthetic dataset in a folder, made if it is not there yet."""
    from deblurkit.data.packed import pack_dataset
    from deblurkit.data.synthetic import make_synthetic
    from deblurkit.data.unified import open_dataset

    root = folder / f"data-{shape[0]}-png"
    if not root.exists():
        train, test = SEQUENCES
        make_synthetic(root, num_train=train, num_test=test, frames_per_sequence=FRAMES, size=shape)
    if storage == "png":
        return root
    packed = folder / f"data-{shape[0]}-packed"
    if not packed.exists():
        pack_dataset(open_dataset(root), packed)
    return packed


def _in_child(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return ``work`` of another process: this one must not map the libraries of those that it measures."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def _predicted(
    preset: str, chosen: list[str], ranks: int, shape: tuple[int, int], storage: str
) -> dict[str, Any]:
    from deblurkit.config.load import load_config
    from deblurkit.tuning.host_memory import predict_host
    from deblurkit.tuning.step_memory import predict_step

    config = load_config(preset, None, chosen, warn=lambda text: None)
    step = predict_step(config, frame_shape=shape, world_size=ranks)
    frames = sum(SEQUENCES) * FRAMES
    found = predict_host(
        config, world_size=ranks, frame_shape=shape, num_frames=frames, step=step, storage=storage
    )
    return {
        "predicted": found.needed_bytes + found.reclaimable_bytes,
        "predicted_shared": found.shm_bytes,
        "rows": [asdict(row) for row in found.rows],
    }


def _measured(preset: str, chosen: list[str], ranks: int) -> tuple[Usage, int]:
    """Return the look at which a run held most, and the most shared memory of all looks."""
    command = [sys.executable, "-m", "deblurkit", "train", "--preset", preset, "--json"]
    command += ["--gpus", str(ranks)] if ranks > 1 else []
    command += [part for setting in chosen for part in ("--set", setting)]
    before = set(SHM.glob("deblurkit-cache-*"))
    most, shared = Usage(), 0
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while child.poll() is None:
            look = _look(child.pid, before)
            most = look if look.total > most.total else most
            shared = max(shared, look.shared)
            time.sleep(PAUSE)
        if child.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} ended with {child.returncode}:\n{output.read().decode()}")
    return most, shared


def _look(pid: int, before: set[Path]) -> Usage:
    from deblurkit.memory.processes import SystemProcesses, process_tree

    tree = process_tree(SystemProcesses(), pid)
    if tree is None:
        return Usage()
    look, mapped, in_one = Usage(), 0, 0
    inodes: dict[int, int] = {}
    for group in tree.groups:
        sums = look.groups.setdefault(group.role, [0, 0])
        for process in group.members:
            parts = _rollup(process.pid)
            sums[0] += 1
            sums[1] += parts.get("Pss_Anon", 0)
            look.pss += process.pss_bytes or 0
            look.files += parts.get("Pss_File", 0)
            mapped += parts.get("Pss_Shmem", 0)
            in_one = max(in_one, _mapped_files(process.pid))
            inodes.update(_open_in_shm(process.pid))
    look.shared = sum(inodes.values()) + sum(
        _size(path) for folder in set(SHM.glob("deblurkit-cache-*")) - before for path in folder.rglob("*")
    )
    look.total = look.pss - mapped + look.shared + max(0, in_one - look.files)
    look.files = max(in_one, look.files)
    return look


def _rollup(pid: int) -> dict[str, int]:
    """Return the sums of a process's memory map [bytes]; none of one that has ended."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value, *_ = line.split()
            found[name.rstrip(":")] = 1024 * int(value)
    return found


def _mapped_files(pid: int) -> int:
    """Return the bytes that a process has in RAM of the files that it has mapped."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssFile:"):
                return 1024 * int(line.split()[1])
    return 0


def _open_in_shm(pid: int) -> Iterator[tuple[int, int]]:
    """Yield inode and bytes of what a process has open in /dev/shm, whether it has a name there or not."""
    device = SHM.stat().st_dev
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found = os.stat(f"/proc/{pid}/fd/{name}")
                if found.st_dev == device:
                    yield found.st_ino, 512 * found.st_blocks


def _size(path: Path) -> int:
    try:
        return 512 * path.lstat().st_blocks
    except OSError:
        return 0


def _show(results: list[dict[str, Any]], *, with_rows: bool) -> None:
    head = ["case", "ranks", "workers", "predicted", "measured", "ratio", "sum of PSS"]
    head += ["/dev/shm predicted", "measured"]
    print(f"| {' | '.join(head)} |\n|---|{'---:|' * (len(head) - 1)}")
    for row in results:
        names = " | ".join(str(row[name]) for name in ("case", "ranks", "workers"))
        sizes = [f"{row[name] / 2**20:.0f}" for name in ("predicted", "measured")]
        rest = [f"{row[name] / 2**20:.0f}" for name in ("pss", "predicted_shared", "measured_shared")]
        print(f"| {names} | {' | '.join(sizes)} | {row['ratio']:.3f} | {' | '.join(rest)} |")
    worst = max(results, key=lambda row: abs(row["ratio"] - 1))
    print(f"\nMiB; furthest apart: {100 * abs(worst['ratio'] - 1):.1f} %")
    for row in results if with_rows else []:
        print(f"\n{row['case']}, {row['ranks']} ranks, {row['workers']} workers")
        for part in row["rows"]:
            print(
                f"  {part['each_bytes'] * part['count'] / 2**20:8.1f} MiB  {part['count']} x {part['name']}"
            )
        for role, (count, anonymous) in row["groups"].items():
            print(f"  measured: {count} x {role}: {anonymous / 2**20:.1f} MiB of their own")
        print(
            f"  measured: files {row['files'] / 2**20:.1f} MiB, shared {row['measured_shared'] / 2**20:.1f}"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["vrt", "unet", "small"])
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 2, 4])
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rows", action="store_true", help="what each prediction and each sum is made of")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
