"""A small dataset drawn from nothing but a seed, for trying things out, for tests and for benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np

from deblurkit.data.dataset_writer import DatasetWriter
from deblurkit.data.manifest import Split
from deblurkit.data.scenes import draw_scene
from deblurkit.data.simulate import BlurVariant, Camera, SpikeSensor, expose
from deblurkit.data.unified import UnifiedDataset, open_dataset
from deblurkit.errors import DataError

Progress: TypeAlias = Callable[[int, int], None]  # frames done, frames in all

# Fires at about 0.3 a frame in these scenes, as simulated recordings of the GoPro scenes do.
SYNTHETIC_SENSOR = SpikeSensor(
    gain=0.65, gain_sigma=0.02, threshold_jitter=0.01, false_spike_interval=(140.0, 50.0)
)

_SPLIT_KEYS: dict[Split, int] = {"train": 0, "test": 1}


def make_synthetic(
    root: Path | str,
    *,
    seed: int = 0,
    num_train: int = 8,
    num_test: int = 2,
    frames_per_sequence: int = 8,
    size: tuple[int, int] = (96, 128),
    sharp_per_exposure: int = 9,
    spikes_per_sharp: int = 8,
    sensor: SpikeSensor = SYNTHETIC_SENSOR,
    blur_variant: BlurVariant = "blur",
    progress: Progress | None = None,
) -> UnifiedDataset:
    """Return a dataset of procedural scenes, written to ``root``; spikes have half the frames' resolution.

    Args:
        root: the dataset's folder; must not exist or be empty.
        seed: decides every scene and every spike; the same seed gives the same files.
        num_train: sequences for training.
        num_test: sequences for testing, of other scenes.
        frames_per_sequence: blurry frames in each.
        size: rows and columns, each a multiple of 16.
        sharp_per_exposure: sharp frames averaged into a blurry one; odd.
        spikes_per_sharp: spike frames in the time of one sharp frame.
        sensor: the simulated spike sensor.
        blur_variant: how light is averaged.
        progress: told the blurry frames done and the number of all.

    Raises:
        DataError: if ``root`` is taken or the numbers make no dataset.
    """
    _check_numbers(num_train, num_test, frames_per_sequence, size)
    camera = Camera(
        sensor=sensor,
        spike_shape=(size[0] // 2, size[1] // 2),
        sharp_per_exposure=sharp_per_exposure,
        spikes_per_sharp=spikes_per_sharp,
        blur_variant=blur_variant,
    )
    total = (num_train + num_test) * frames_per_sequence
    done = 0
    with DatasetWriter(
        root,
        name=Path(root).absolute().name,
        source={"made_by": "deblurkit prepare-data synthetic", "seed": seed},
        blur_variant=blur_variant,
        frame_shape=size,
        spike_shape=camera.spike_shape,
        spikes_per_sharp_frame=spikes_per_sharp,
        sensor=sensor.as_dict(),
    ) as writer:
        for split, index in _places(num_train, num_test):
            rng = np.random.default_rng([seed, _SPLIT_KEYS[split], index])
            num_sharp = frames_per_sequence * sharp_per_exposure
            scene = draw_scene(rng, size=size, duration=num_sharp)
            with writer.sequence(
                split,
                f"scene{index:03d}",
                spike_frames_per_exposure=camera.spikes_per_exposure,
                sharp_frames_per_exposure=sharp_per_exposure,
            ) as sequence:
                for exposure in expose(map(scene.render, range(num_sharp)), rng, camera):
                    sequence.add(**exposure._asdict())
                    done += 1
                    if progress is not None:
                        progress(done, total)
    return open_dataset(root)


def _places(num_train: int, num_test: int) -> Iterator[tuple[Split, int]]:
    yield from (("train", index) for index in range(num_train))
    yield from (("test", index) for index in range(num_test))


def _check_numbers(num_train: int, num_test: int, frames: int, size: tuple[int, int]) -> None:
    if min(num_train, num_test) < 0 or num_train + num_test < 1 or frames < 1:
        raise DataError(
            f"at least one sequence of one frame expected, got {num_train} sequences for training, "
            f"{num_test} for testing, {frames} frames each"
        )
    if min(size) < 32 or size[0] % 16 or size[1] % 16:
        raise DataError(f"height and width must be multiples of 16 and at least 32, got {size[0]}x{size[1]}")
