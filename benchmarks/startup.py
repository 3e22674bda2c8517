"""How long `deblurkit --help` takes beside `import typer, rich`, as a ratio, and what it imports.

Usage: python benchmarks/startup.py [ROUNDS]
"""

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "import typer, rich": [sys.executable, "-c", "import typer, rich"],
    "deblurkit --help": [sys.executable, "-m", "deblurkit", "--help"],
}


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main(rounds: int = 21) -> None:
    for command in COMMANDS.values():
        seconds(command)
    pairs = [[seconds(command) for command in COMMANDS.values()] for _ in range(rounds)]
    for name, values in zip(COMMANDS, zip(*pairs, strict=True), strict=True):
        print(f"{name:20} {1000 * statistics.median(values):6.1f} ms, median of {rounds}, alternating")
    print(f"ratio                {statistics.median(b / a for a, b in pairs):6.2f}")
    trace = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "deblurkit", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in trace.splitlines()}
    heavy = sorted(imported & {"torch", "pandas", "numpy", "cv2", "pydantic"})
    print(f"heavy imports        {', '.join(heavy) or 'none'}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
