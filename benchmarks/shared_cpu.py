"""What a training on a CPU loses to a second process, with OpenMP threads that spin and with ones that sleep.

Usage: python benchmarks/shared_cpu.py [STEPS, at least 20] [ROUNDS]

Prints the seconds of a number of training steps, alone and beside another training, for OMP_WAIT_POLICY unset
(the library's default, spinning) and PASSIVE (what `deblurkit` sets), alternating.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TRAIN = "from deblurkit.cli.app import run; import sys; sys.exit(run(sys.argv[1:]))"


def start(folder: Path, name: str, steps: int, policy: str | None) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if policy is not None:
        environment["OMP_WAIT_POLICY"] = policy
    settings = [f"DATA.ROOT={folder / 'data'}", f"TRAIN.MAX_STEPS={steps}", "LOG.TENSORBOARD=false"]
    command = [sys.executable, "-c", TRAIN, "train", "--preset", "quickstart", "--output", str(folder / name)]
    command += [part for setting in settings for part in ("--set", setting)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def seconds(process: subprocess.Popen[str]) -> float:
    output, _ = process.communicate()
    found = re.search(r"steps in ([\d.]+) s", output)
    assert found is not None and process.returncode == 0
    return float(found[1])


def main(steps: int = 40, rounds: int = 3) -> None:
    rows: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds(start(folder, "first", 20, "PASSIVE"))  # draws the data
        for turn in range(rounds):
            for policy in (None, "PASSIVE"):
                label = policy or "default"
                rows.setdefault((label, "alone"), []).append(
                    seconds(start(folder, f"{label}a{turn}", steps, policy))
                )
                pair = [start(folder, f"{label}{part}{turn}", steps, policy) for part in "bc"]
                rows.setdefault((label, "two at once"), []).append(max(map(seconds, pair)))
    for (label, kind), values in rows.items():
        print(f"{label:8} {kind:12} {statistics.median(values):7.1f} s for {steps} steps, median of {rounds}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
