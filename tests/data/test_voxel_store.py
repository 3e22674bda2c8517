import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch

from deblurkit.data.clips import ClipKey, EvaluationClips, TrainingClips
from deblurkit.data.sensor_noise import SensorNoise
from deblurkit.data.unified import open_dataset
from deblurkit.data.voxel_store import CountedReader, make_voxels, store_folder
from deblurkit.errors import DataError

BINS = 5


@pytest.fixture(scope="module")
def root(dataset_root, tmp_path_factory):
    copy = shutil.copytree(dataset_root, tmp_path_factory.mktemp("voxels") / "data")
    make_voxels(open_dataset(copy), BINS)
    return copy


def clips(root, **options):
    chosen = {"clip_length": 2, "crop_size": 32, "num_voxel_bins": BINS, "seed": 3} | options
    return TrainingClips(open_dataset(root).sequences("train"), **chosen)


@pytest.mark.parametrize("on_worker", [True, False])
def test_samples_are_those_of_the_bits(root, on_worker):
    counted = pickle.loads(pickle.dumps(CountedReader(root, BINS)))  # as a worker gets it
    made = clips(root, counted=counted, voxels_on_worker=on_worker)
    plain = clips(root, voxels_on_worker=on_worker)
    for epoch in range(6):
        key = ClipKey(epoch, epoch % len(plain))
        mine, other = made[key], plain[key]
        if on_worker:
            assert torch.equal(mine.spikes, other.spikes)
        assert torch.equal(mine.blurry, other.blurry) and torch.equal(mine.sharp, other.sharp)


def test_so_are_whole_frames(root):
    sequences = open_dataset(root).sequences("test")
    options = {"clip_length": 3, "num_voxel_bins": BINS}
    plain = EvaluationClips(sequences, **options)
    made = EvaluationClips(sequences, **options, counted=CountedReader(root, BINS))
    for index in range(len(plain)):
        assert torch.equal(plain[index].spikes, made[index].spikes)


def test_a_voxel_takes_a_byte(root):
    sequence = open_dataset(root).sequences("train")[0]
    stored = np.load(store_folder(root, BINS) / f"train/{sequence.name}.npy", mmap_mode="r")
    assert stored.dtype == np.uint8 and stored.shape == (5, BINS, 24, 32)


def test_noise_needs_bits(root):
    with pytest.raises(ValueError, match="noise changes bits"):
        clips(root, counted=CountedReader(root, BINS), noise=SensorNoise(dropout=0.1))


def test_voxels_that_were_not_made_are_named_with_the_command(root):
    with pytest.raises(
        DataError, match=f"finds no voxels; make them by `deblurkit prepare-data voxels {root} --bins 9`"
    ):
        CountedReader(root, 9)


def test_voxels_are_not_made_twice(root):
    with pytest.raises(DataError, match="exists; remove it first"):
        make_voxels(open_dataset(root), BINS)


@pytest.fixture
def copy(root, tmp_path):
    return shutil.copytree(root, tmp_path / "data")


def test_voxels_of_another_state_of_the_dataset_are_refused(copy):
    path = copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "another"}))
    with pytest.raises(DataError, match="made of another state of the dataset"):
        CountedReader(copy, BINS)


def test_a_flipped_byte_and_another_number_of_bins_are_refused(copy):
    folder = store_folder(copy, BINS)
    path = next(folder.glob("train/*.npy"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"{path.relative_to(folder)} is damaged"):
        CountedReader(copy, BINS)
    folder.rename(store_folder(copy, 9))
    with pytest.raises(DataError, match="made of another state"):
        CountedReader(copy, 9)


def test_a_disk_that_is_too_small_is_told_before(dataset_root, tmp_path, monkeypatch):
    root = shutil.copytree(dataset_root, tmp_path / "data")
    usage = shutil.disk_usage(root)._replace(free=1000)
    monkeypatch.setattr("deblurkit.data.voxel_store.shutil.disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="the voxels need .*, 1000 B are free"):
        make_voxels(open_dataset(root), BINS)
    assert not list(root.glob("*voxels*"))


def test_damage_is_refused(copy):
    folder = store_folder(copy, BINS)
    path = next(folder.glob("train/*.npy"))
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(DataError, match=f"{path.relative_to(folder)} is cut"):
        CountedReader(copy, BINS)
    path.unlink()
    with pytest.raises(DataError, match="damaged"):
        CountedReader(copy, BINS)
    (folder / "index.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        CountedReader(copy, BINS)
