import json
import os
import shutil

import numpy as np
import pytest

from deblurkit.data import packed
from deblurkit.data.clips import ClipKey, TrainingClips
from deblurkit.data.frames import Window
from deblurkit.data.packed import pack_dataset, packed_bytes
from deblurkit.data.unified import open_dataset
from deblurkit.errors import DataError


@pytest.fixture(scope="module")
def store(dataset_root, tmp_path_factory):
    root = tmp_path_factory.mktemp("packed") / "store"
    pack_dataset(open_dataset(dataset_root), root, workers=2)
    return root


@pytest.fixture
def copy(store, tmp_path):
    """A copy that has been opened, and so verified."""
    root = shutil.copytree(store, tmp_path / "store", copy_function=shutil.copy2)
    open_dataset(root)
    return root


def test_frames_and_spikes_are_those_of_the_pngs(dataset_root, store):
    for split in ("train", "test"):
        pairs = zip(
            open_dataset(dataset_root).sequences(split), open_dataset(store).sequences(split), strict=True
        )
        for plain, stored in pairs:
            assert plain.stems.tolist() == stored.stems.tolist()
            for t in range(plain.num_frames):
                assert np.array_equal(plain.read_blurry(t), stored.read_blurry(t))
                assert np.array_equal(plain.read_sharp(t), stored.read_sharp(t))
                assert np.array_equal(plain.read_spikes(t), stored.read_spikes(t))
                window = Window(5, 9, 16, 24)
                assert np.array_equal(plain.read_sharp(t, window), stored.read_sharp(t, window))


def test_samples_are_the_same(dataset_root, store):
    options = {"clip_length": 2, "crop_size": 32, "num_voxel_bins": 4, "seed": 3}
    plain, stored = (
        TrainingClips(open_dataset(root).sequences("train"), **options) for root in (dataset_root, store)
    )
    for epoch in range(3):
        for mine, other in zip(plain[ClipKey(epoch, 2)], stored[ClipKey(epoch, 2)], strict=True):
            assert np.array_equal(mine, other)


def test_a_crop_is_a_view_of_the_file_and_cannot_be_written_to(store):
    sequence = open_dataset(store).sequences("train")[0]
    crop = sequence.read_blurry(0, Window(0, 0, 8, 8))
    assert crop.base is not None
    with pytest.raises(ValueError, match="read-only"):
        crop[0, 0, 0] = 1


def test_its_size_is_known_before(dataset_root, store):
    size = sum(path.stat().st_size for path in store.rglob("*") if path.suffix in (".u8", ".dat"))
    assert packed_bytes(open_dataset(dataset_root).manifest) == size


def test_a_disk_that_is_too_small_is_told_before(dataset_root, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match="the packed dataset needs .*, 1000 B are free"):
        pack_dataset(open_dataset(dataset_root), tmp_path / "store")


def test_what_goes_wrong_leaves_nothing_behind(dataset_root, tmp_path):
    root = shutil.copytree(dataset_root, tmp_path / "damaged")
    dataset = open_dataset(root)
    broken = sorted(root.glob("test/*/sharp/*.png"))[-1]
    broken.write_bytes(bytes(broken.stat().st_size))
    with pytest.raises(DataError, match=f"{broken}: damaged"):
        pack_dataset(dataset, tmp_path / "store")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged"]


def test_a_packed_dataset_is_not_packed_again(store, tmp_path):
    with pytest.raises(DataError, match="is packed already"):
        pack_dataset(open_dataset(store), tmp_path / "again")


@pytest.mark.parametrize("kind", ["blur.u8", "sharp.u8", "spikes.dat"])
def test_a_damaged_file_is_refused_by_name(copy, kind):
    path = next(copy.glob(f"train/*/{kind}"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(
        DataError, match=rf"damaged files; pack it again .*\n  {path.relative_to(copy)}: SHA-256"
    ):
        open_dataset(copy)


def test_a_cut_or_missing_file_is_refused_by_name(copy):
    path = next(copy.glob("test/*/blur.u8"))
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(DataError, match=f"{path.relative_to(copy)}: .* bytes, .* expected"):
        open_dataset(copy)
    path.unlink()
    with pytest.raises(DataError, match=f"{path.relative_to(copy)}: missing"):
        open_dataset(copy)


def test_what_has_not_changed_is_not_read_again(copy, monkeypatch):
    read = []
    monkeypatch.setattr("deblurkit.data.verified.sha256_of", lambda path: read.append(path.name))
    open_dataset(copy)
    assert read == []
    path = next(copy.glob("train/*/blur.u8"))
    os.utime(path, ns=(0, 0))
    with pytest.raises(DataError, match="SHA-256 differs"):
        open_dataset(copy)
    assert read == ["blur.u8"]


def test_a_copy_that_kept_its_times_is_read_again(store, tmp_path):
    """As `rsync -t` makes it, with a byte lost on the way."""
    root = shutil.copytree(store, tmp_path / "store", copy_function=shutil.copy2)
    path = next(root.glob("train/*/blur.u8"))
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(DataError, match=f"{path.relative_to(root)}: SHA-256 differs"):
        open_dataset(root)


def test_a_manifest_that_expects_other_bytes_is_not_verified(copy):
    path = copy / "manifest.json"
    content = json.loads(path.read_text())
    name = next(name for name in content["files"] if name.endswith("blur.u8"))
    content["files"][name]["sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"{name}: SHA-256 differs"):
        open_dataset(copy)


def test_another_picture_under_the_name_of_a_frame_is_refused(dataset_root, tmp_path):
    root = shutil.copytree(dataset_root, tmp_path / "data")
    first, second = sorted(root.glob("train/scene000/blur/*.png"))[:2]
    size = first.stat().st_size
    first.write_bytes(second.read_bytes()[:size].ljust(size, b"\0"))
    with pytest.raises(DataError, match=f"{first}: damaged: SHA-256 differs from the manifest's"):
        pack_dataset(open_dataset(root), tmp_path / "store")


def test_what_a_killed_run_has_left_is_removed(dataset_root, tmp_path):
    (tmp_path / ".store.abc.partial").mkdir()
    pack_dataset(open_dataset(dataset_root), tmp_path / "store")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_copy_is_read_once_and_then_known(copy):
    told = []
    for path in copy.rglob("*.u8"):
        os.utime(path, ns=(1, 1))
    open_dataset(copy, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == sum(path.stat().st_size for path in copy.rglob("*.u8"))
    open_dataset(copy, progress=lambda done, total: told.append("again"))
    assert told[-1] != "again"


def test_frames_that_do_not_fill_their_file_are_refused(copy):
    path = copy / "manifest.json"
    content = json.loads(path.read_text())
    content["frame_shape"] = [48, 72]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"blur.u8: \d+ bytes, 5 frames have \d+"):
        open_dataset(copy)
