"""Bytes of batches against those of tensors that were read, and against sums by hand."""

import pytest

from deblurkit.config.sections.data import DataSection
from deblurkit.data.batch_bytes import (
    IN_TRAINING,
    IN_VALIDATION,
    ClipBytes,
    batches_alive,
    largest_clip,
    raw_bytes,
    ready_bytes,
    voxels_on_worker,
)
from deblurkit.data.clips import ClipKey, EvaluationClips, TrainingClips
from deblurkit.data.unified import open_dataset


def read(dataset_root, *, on_worker):
    """A training clip of 3 frames with a crop of 32, and a whole-frame one, out of frames of 48 x 64."""
    dataset = open_dataset(dataset_root)
    options = {"clip_length": 3, "num_voxel_bins": 4, "voxels_on_worker": on_worker}
    crops = TrainingClips(dataset.sequences("train"), crop_size=32, seed=0, **options)
    return crops[ClipKey(0, 0)], EvaluationClips(dataset.sequences("test"), **options)[0]


def nbytes(clip):
    return ClipBytes(clip.blurry.nbytes, clip.spikes.nbytes, clip.sharp.nbytes)


def test_a_clip_that_is_ready_has_the_bytes_of_its_tensors(dataset_root):
    crop, whole = read(dataset_root, on_worker=True)
    assert ready_bytes(3, (32, 32), (16, 16), num_voxel_bins=4) == nbytes(crop)
    assert ready_bytes(3, (48, 64), (24, 32), num_voxel_bins=4) == nbytes(whole)


def test_a_clip_as_it_is_read_has_the_bytes_of_its_tensors(dataset_root):
    crop, whole = read(dataset_root, on_worker=False)
    assert raw_bytes(3, (32, 32), (16, 16), spike_frames=72) == nbytes(crop)
    assert raw_bytes(3, (48, 64), (24, 32), spike_frames=72) == nbytes(whole)


def test_a_batch_has_as_many_times_the_bytes():
    assert ClipBytes(3, 5, 3).times(4) == (12, 20, 12)
    assert ClipBytes(3, 5, 3).times(4).total == 44


def test_batches_wait_only_where_workers_make_them():
    assert batches_alive(3, 4, taken=IN_TRAINING) == 12 + 4  # 2 wait, 1 for its place, 1 in the step
    assert batches_alive(3, 2, taken=IN_VALIDATION) == 6 + 2
    assert batches_alive(0, 4, taken=IN_TRAINING) == 0


def test_the_largest_of_the_schedules_counts():
    schedule = {"CROP_SIZE": 128, "TRAIN_CROP_SIZE": [64, 96], "TRAIN_CROP_EPOCHS": 2, "CLIP_LEN": 6}
    assert largest_clip(DataSection(**schedule)) == (6, 128)
    assert largest_clip(DataSection(**schedule, TRAIN_CLIP_LEN=4)) == (4, 128)


@pytest.mark.parametrize(
    ("setting", "on_cpu", "on_gpu"),
    [("auto", True, False), ("worker", True, True), ("device", False, False)],
)
def test_a_gpu_makes_voxels_itself_unless_told(setting, on_cpu, on_gpu):
    section = DataSection(VOXELS_ON=setting)
    assert voxels_on_worker(section, "cpu") is on_cpu and voxels_on_worker(section, "cuda") is on_gpu
