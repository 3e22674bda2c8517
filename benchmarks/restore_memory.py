"""What `deblurkit restore` takes for 6 frames of 720p, and what tiles change in the result.

    python benchmarks/restore_memory.py [--checkpoint RUN] [--preset quickstart] [--memory 4] [--tile 256x256]

Nothing is trained: without --checkpoint the network of the preset has random weights, also where it would
start at zero, so that it does something. Frames and spikes are random smooth ones. The restoration runs in a
child process, whose peak memory in RAM the kernel tells; the comparison of tiles against the whole runs on
256 x 384 px, where both fit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from deblurkit.config.load import load_config
from deblurkit.config.schema import Config, as_values
from deblurkit.data.simulate import gray
from deblurkit.data.spikes import write_spikes
from deblurkit.models.registry import build_model
from deblurkit.training.checkpoint import save_checkpoint
from deblurkit.training.evaluate import load_network
from deblurkit.training.optim import build_optimizer
from deblurkit.training.precision import Precision
from deblurkit.training.step import takes_spikes
from deblurkit.training.tiling import Tile, restore_tiled
from deblurkit.units import GIB

SHAPE = (720, 1280)
FRAMES = 6
SPIKES_PER_FRAME = 56
SMALL = (256, 384)
COMMAND = "from deblurkit.cli.app import main; main()"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = options.checkpoint or random_checkpoint(folder / "step_00000000.pt", options.preset)
        write_input(folder / "frames", folder / "spikes.dat")
        model, config, _ = load_network(checkpoint, warn=print)
        for arguments in ([], ["--memory", str(options.memory)], ["--tile", options.tile]):
            measure(folder, checkpoint, arguments, spikes=takes_spikes(model))
        compare(model, config)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="a run's folder or checkpoint; random weights without"
    )
    parser.add_argument("--preset", default="quickstart")
    parser.add_argument("--memory", type=float, default=1.2, help="GiB")
    parser.add_argument("--tile", default="256x256")
    return parser.parse_args()


def random_checkpoint(path: Path, preset: str) -> Path:
    """Write a checkpoint of a network that was never trained, with no weight left at zero."""
    config = load_config(preset, warn=print)
    torch.manual_seed(0)
    model = build_model(config.model, num_voxel_bins=config.data.num_voxel_bins)
    for weights in model.parameters():
        if weights.ndim > 1 and not weights.any():
            nn.init.normal_(weights, std=0.02)
    device = torch.device("cpu")
    save_checkpoint(
        path,
        step=0,
        config=as_values(config),
        model=model,
        optimizer=build_optimizer(config.train.optim, model, device=device, warn=print),
        precision=Precision(device, None),
        extra={},
    )
    return path


def write_input(frames: Path, spikes: Path) -> None:
    """Write smooth random frames that move, and spikes that fire at the rate of their light."""
    frames.mkdir()
    rng = np.random.default_rng(0)
    scene = smooth(rng, (SHAPE[0], SHAPE[1] + 64, 3))
    fired = []
    for number in range(FRAMES):
        frame = np.ascontiguousarray(scene[:, 8 * number : 8 * number + SHAPE[1]])
        cv2.imwrite(str(frames / f"{number:06d}.png"), frame)
        light = cv2.resize(gray(frame) / 255, (SHAPE[1] // 2, SHAPE[0] // 2), interpolation=cv2.INTER_AREA)
        fired.append(rng.random((SPIKES_PER_FRAME, *light.shape), dtype=np.float32) < 0.6 * light)
    write_spikes(spikes, np.concatenate(fired).astype(np.uint8))


def smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), 3)
    low, high = noise.min(), noise.max()
    return np.rint(255 * (noise - low) / (high - low)).astype(np.uint8)


def measure(folder: Path, checkpoint: Path, arguments: list[str], *, spikes: bool) -> None:
    """Run the command in a child process and print the peak of its memory in RAM and its time."""
    output = folder / ("out" + "".join(arguments))
    command = [sys.executable, "-c", COMMAND, "restore", str(checkpoint), str(folder / "frames")]
    command += ["--output", str(output), "--json", "--device", "cpu", *arguments]
    if spikes:
        command += [
            "--spikes",
            str(folder / "spikes.dat"),
            "--spike-size",
            f"{SHAPE[0] // 2}x{SHAPE[1] // 2}",
        ]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        printed = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command)} ended with {child.returncode}")
    result = json.loads(printed)
    tile = " x ".join(map(str, result["tile"]))
    print(
        f"{FRAMES} x {SHAPE[0]} x {SHAPE[1]} {' '.join(arguments) or '(default)':18} peak RSS"
        f" {usage.ru_maxrss * 1024 / GIB:.2f} GiB, {time.perf_counter() - began:.1f} s,"
        f" {result['tiles']} tiles of at most {tile}"
    )


@torch.inference_mode()
def compare(model: nn.Module, config: Config) -> None:
    """Print how far tiles are from the whole, by the overlap, and where the difference lies."""
    generator = torch.Generator().manual_seed(0)
    frames = config.data.clip_len
    rng = np.random.default_rng(1)
    scene = (
        torch.from_numpy(np.stack([smooth(rng, (*SMALL, 3)) for _ in range(frames)]))
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )
    voxels = None
    if takes_spikes(model):
        size = (frames, config.data.num_voxel_bins, SMALL[0] // 2, SMALL[1] // 2)
        voxels = torch.rand(size, generator=generator)
    model.eval()

    def call(blurry: torch.Tensor, spikes: torch.Tensor | None) -> torch.Tensor:
        return model(blurry[None], None if spikes is None else spikes[None])[0].float()

    whole = call(scene, voxels)
    size = (whole - scene).abs().max()
    print(f"whole {SMALL[0]} x {SMALL[1]}: the network changes the input by {size:.4f} at most")
    for overlap in (0, 16, 32, 64, 96):
        tile = Tile(frames, *((side + overlap) // 2 for side in SMALL))
        tiled = restore_tiled(call, scene, voxels, tile=tile, overlap=Tile(0, overlap, overlap))
        difference = (tiled - whole).abs()
        psnr = -10 * np.log10(max(1e-20, float((tiled - whole).square().mean())))
        print(
            f"2 x 2 tiles, overlap {overlap:2}: max |difference| {difference.max():.5f}, mean"
            f" {difference.mean():.6f}, {psnr:.1f} dB"
        )
    one = restore_tiled(call, scene, voxels, tile=Tile(frames, *SMALL))
    print(f"one tile over everything: equal bits: {torch.equal(one, whole)}")


if __name__ == "__main__":
    main()
