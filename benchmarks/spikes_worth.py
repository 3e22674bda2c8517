"""What the spikes are worth to VRT on the built-in synthetic set, in a run of many minutes stopped twice.

Two runs of the same length, one after the other or side by side, with spikes and on frames alone. Each is
ended by SIGTERM at about a third and two thirds of its steps, and goes on with --resume auto. Writes a table,
a PNG with both curves, and both run folders.

    python benchmarks/spikes_worth.py --output /tmp/worth --steps 1200 --together
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from deblurkit.data.synthetic import make_synthetic

VALIDATION = re.compile(r"validation after step (\d+) \(vrt\): PSNR ([\d.]+) dB \(blurry ([\d.]+)\)")
STEP = re.compile(r"step (\d+)/\d+ \| loss=")
ARMS = {"with spikes": [], "frames alone": ["--set", "MODEL.USE_SPIKE=false"]}
COLOURS = {"with spikes": (200, 90, 20), "frames alone": (40, 40, 200)}  # BGR
Curve = list[tuple[int, float, float]]  # step, PSNR of the restored and of the blurry frames [dB]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--together", action="store_true", help="both runs at once, a core each")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    make_synthetic(options.output / "data", seed=123)
    with ThreadPoolExecutor(len(ARMS) if options.together else 1) as pool:
        curves = dict(zip(ARMS, pool.map(lambda arm: train(arm, options), ARMS), strict=True))
    cv2.imwrite(str(options.output / "psnr.png"), chart(curves))
    print(as_markdown(curves))


def train(arm: str, options: argparse.Namespace) -> Curve:
    """Run one arm to its end, stopped twice, and return its curve."""
    folder = options.output / arm.replace(" ", "_")
    keys = [
        f"TRAIN.MAX_STEPS={options.steps}",
        f"LOG.VAL_EVERY_STEPS={max(1, options.steps // 24)}",
        f"DATA.ROOT={options.output / 'data'}",
        *options.overrides,
    ]
    settings = [part for key in keys for part in ("--set", key)]
    command = [
        sys.executable,
        "-m",
        "deblurkit",
        "train",
        "--preset",
        "quickstart_vrt",
        "--output",
        str(folder),
    ]
    began = time.monotonic()
    for stop_after in (options.steps // 3, 2 * options.steps // 3, None):
        process = subprocess.Popen(
            [*command, "--resume", "auto", *settings, *ARMS[arm]],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        _stop_after(process, folder, stop_after)
        _, said = process.communicate()
        expected = 0 if stop_after is None else 128 + signal.SIGTERM
        if process.returncode != expected:
            raise SystemExit(f"{arm}: exit code {process.returncode}, {expected} expected:\n{said}")
        print(f"{arm}: {said.strip().splitlines()[-1]} ({time.monotonic() - began:.0f} s)", flush=True)
    return _curve(folder)


def _stop_after(process: subprocess.Popen[str], folder: Path, step: int | None) -> None:
    while step is not None and process.poll() is None:
        done = [int(number) for number in STEP.findall(_journal(folder))]
        if done and max(done) >= step:
            process.send_signal(signal.SIGTERM)
            return
        time.sleep(0.5)


def _journal(folder: Path) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted((folder / "logs").glob("train_*.log")))


def _curve(folder: Path) -> Curve:
    found = {
        int(step): (float(own), float(blurry)) for step, own, blurry in VALIDATION.findall(_journal(folder))
    }
    return [(step, *scores) for step, scores in sorted(found.items())]


def as_markdown(curves: dict[str, Curve]) -> str:
    """Return the gains over the blurry frames as a table."""
    lines = [
        "| step | " + " | ".join(f"{arm} [dB]" for arm in curves) + " |",
        "|---:|" + "---:|" * len(curves),
    ]
    gains = {arm: {step: own - blurry for step, own, blurry in curve} for arm, curve in curves.items()}
    for step in sorted(set().union(*gains.values())):
        cells = [f"{gains[arm][step]:+.2f}" if step in gains[arm] else "" for arm in curves]
        lines.append(f"| {step} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def chart(curves: dict[str, Curve]) -> NDArray[np.uint8]:
    """Return a picture of PSNR over steps, the blurry frames as a line."""
    width, height, left, bottom, top = 960, 540, 80, 60, 40
    image = np.full((height, width, 3), 255, np.uint8)
    points = [point for curve in curves.values() for point in curve]
    blurry = points[0][2]
    last = max(step for step, _, _ in points)
    low = min([blurry, *(own for _, own, _ in points)]) - 0.2
    high = max(own for _, own, _ in points) + 0.2

    def place(step: float, psnr: float) -> tuple[int, int]:
        x = left + (width - left - 20) * step / last
        y = height - bottom - (height - bottom - top) * (psnr - low) / (high - low)
        return round(x), round(y)

    def write(text: str, at: tuple[int, int], colour: tuple[int, int, int] = (60, 60, 60)) -> None:
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)

    for psnr in np.arange(np.ceil(low * 2) / 2, high, 0.5):
        cv2.line(image, place(0, psnr), place(last, psnr), (225, 225, 225), 1)
        write(f"{psnr:.1f}", (20, place(0, psnr)[1] + 5))
    for step in range(0, last + 1, max(1, last // 6)):
        write(str(step), (place(step, low)[0] - 12, height - bottom + 25))
    write("PSNR of held-out frames [dB]", (20, 22))
    write("optimiser step", (width // 2 - 40, height - 12))
    cv2.line(image, place(0, blurry), place(last, blurry), (140, 140, 140), 2)
    write("blurry input", (width - 130, place(0, blurry)[1] - 8), (120, 120, 120))
    for number, (arm, curve) in enumerate(curves.items()):
        line = np.array([place(step, own) for step, own, _ in curve], np.int32)
        cv2.polylines(image, [line], False, COLOURS[arm], 2, cv2.LINE_AA)
        write(arm, (left + 20, top + 20 + 22 * number), COLOURS[arm])
    return image


if __name__ == "__main__":
    main()
