"""Samples a second and core out of PNGs, a warm cache and a packed dataset; how long a step waits for data.

720p frames, spikes of 360x640 and 56 frames an exposure, clips of 6 frames, crops of 192 px, 32 voxel bins.
The ways to read take turns on one thread; a figure is the median of the rounds. "device": bits and crops are
all that a worker delivers; "worker": the clip is ready for a step, voxels and all. Then two workers feed a
loop that sleeps for 100 ms a step, and the time that it waits for each batch is taken.

    python benchmarks/data_loading.py [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from deblurkit.cache.node_cache import NodeCache
from deblurkit.data.clips import ClipKey, TrainingClips
from deblurkit.data.dataset_writer import DatasetWriter
from deblurkit.data.loaders import BatchStream, training_loader
from deblurkit.data.packed import pack_dataset
from deblurkit.data.prefetch import device_batches
from deblurkit.data.unified import UnifiedDataset, open_dataset

FRAMES, SHAPE, SPIKE_SHAPE, SPIKE_FRAMES = 24, (720, 1280), (360, 640), 56
CLIP = {"clip_length": 6, "crop_size": 192, "num_voxel_bins": 32, "seed": 0}
STEP_SECONDS, STEPS, BATCH = 0.1, 60, 1
READS = {"PNG": 6, "PNG, warm cache": 40, "packed": 200}  # samples a round


def main() -> None:
    """Print the table, or one JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = _written(Path(folder) / "png")
        packed = pack_dataset(dataset, Path(folder) / "packed", workers=2)
        cache = NodeCache.join(str(folder), max_bytes=2 * FRAMES * SHAPE[0] * SHAPE[1] * 3 + 2**26)
        try:
            sources = {
                "PNG": dataset.sequences("train"),
                "PNG, warm cache": dataset.sequences("train", cache=cache),
                "packed": packed.sequences("train"),
            }
            seconds = _sample_seconds(sources, rounds=options.rounds)
            waits = {name: _waits(source) for name, source in sources.items() if name != "PNG"}
        finally:
            cache.close()
    _show(seconds, waits, as_json=options.json)


def _written(root: Path) -> UnifiedDataset:
    """Write a sequence whose PNGs compress about as photographs do."""
    rng = np.random.default_rng(0)
    with (
        DatasetWriter(
            root, name="bench", source={}, blur_variant="blur", frame_shape=SHAPE, spike_shape=SPIKE_SHAPE
        ) as writer,
        writer.sequence("train", "seq", spike_frames_per_exposure=SPIKE_FRAMES) as sequence,
    ):
        for _ in range(FRAMES):
            coarse = rng.integers(0, 256, (45, 80, 3), dtype=np.uint8)
            smooth = cv2.resize(coarse, SHAPE[::-1], interpolation=cv2.INTER_CUBIC)
            frame = np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)
            spikes = (rng.random((SPIKE_FRAMES, *SPIKE_SHAPE), dtype=np.float32) < 0.3).astype(np.uint8)
            sequence.add(blurry=frame, sharp=frame, spikes=spikes)
    return open_dataset(root)


def _sample_seconds(sources: dict[str, Any], *, rounds: int) -> dict[str, dict[str, float]]:
    """Return the median seconds of a sample, by source and by where its voxels are made."""
    clips = {
        (name, where): TrainingClips(sequences, **CLIP, voxels_on_worker=where == "worker")
        for name, sequences in sources.items()
        for where in ("device", "worker")
    }
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in clips}
    for number in range(rounds + 1):
        for (name, where), source in clips.items():
            start = time.perf_counter()
            for sample in range(READS[name]):
                source[ClipKey(1000 * number + sample, sample % len(source))]
            if number:  # the first round warms caches
                taken[name, where].append((time.perf_counter() - start) / READS[name])
    medians = {key: statistics.median(values) for key, values in taken.items()}
    return {name: {where: medians[name, where] for where in ("device", "worker")} for name in sources}


def _waits(sequences: Any) -> float:
    """Return the median seconds that a loop of 100 ms steps waits for a batch of two workers."""
    clips = TrainingClips(sequences, **CLIP)
    batches = BatchStream(len(clips), batch_size=BATCH, seed=0, first_batch=0, num_batches=STEPS)
    loader = training_loader(clips, batches, num_workers=2, prefetch_factor=4, pin_memory=False)
    stream = device_batches(loader, device=torch.device("cpu"), num_voxel_bins=32, in_background=True)
    waited = []
    for _ in range(STEPS):
        start = time.perf_counter()
        next(stream)
        waited.append(time.perf_counter() - start)
        time.sleep(STEP_SECONDS)
    return statistics.median(waited[5:])


def _show(seconds: dict[str, dict[str, float]], waits: dict[str, float], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"seconds_per_sample": seconds, "median_wait_seconds": waits}, indent=2))
        return
    print("| source | voxels on | ms a sample | samples/s and core | x PNG |\n|---|---|---:|---:|---:|")
    for name, by_place in seconds.items():
        for where, taken in by_place.items():
            ratio = seconds["PNG"][where] / taken
            print(f"| {name} | {where} | {taken * 1e3:.2f} | {1 / taken:.1f} | {ratio:.1f} |")
    for name, wait in waits.items():
        print(f"\n{name}: a step of 100 ms waits {wait * 1e3:.2f} ms for its batch (median, 2 workers)")


if __name__ == "__main__":
    main()
