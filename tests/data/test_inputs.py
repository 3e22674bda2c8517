import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from deblurkit.data.inputs import exposures_of_recording, open_input
from deblurkit.data.reconstruct import voxels
from deblurkit.data.spikes import SpikeGeometry, write_spikes
from deblurkit.data.unified import open_dataset
from deblurkit.errors import DataError


def write(folder, name, value, size=(16, 24)):
    folder.mkdir(exist_ok=True)
    picture = np.full((*size, 3), value, np.uint8)
    picture[..., 0] = 0  # blue of OpenCV's order
    cv2.imwrite(str(folder / name), picture)


def test_pictures_come_in_the_order_people_count_and_in_rgb(tmp_path):
    for number in (10, 9, 1):
        write(tmp_path / "in", f"frame_{number}.png", number)
    (tmp_path / "in" / "notes.txt").write_text("x")
    frames = open_input(tmp_path / "in")
    assert frames.names == ["frame_1", "frame_9", "frame_10"]
    assert (frames.shape, frames.spikes) == ((16, 24), None)
    assert frames.read(1, 3)[:, 0, 0].tolist() == [[9, 9, 0], [10, 10, 0]]


def test_hidden_files_are_no_frames(tmp_path):
    write(tmp_path / "in", "000.png", 1)
    (tmp_path / "in" / "._000.png").write_bytes(b"what macOS keeps beside a file")
    (tmp_path / "in" / ".x.png").write_bytes(b"x")
    assert open_input(tmp_path / "in").names == ["000"]


def test_pictures_of_another_size_or_of_one_name_are_refused(tmp_path):
    write(tmp_path / "in", "0.png", 1)
    write(tmp_path / "in", "1.png", 1, size=(16, 32))
    with pytest.raises(DataError, match=r"1.png: 16x32 pixels, expected 16x24 as the first frame has"):
        open_input(tmp_path / "in").read(0, 2)
    write(tmp_path / "in", "0.jpg", 1)
    with pytest.raises(DataError, match="two pictures are called 0"):
        open_input(tmp_path / "in")


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_nothing_to_restore_is_a_clear_error(tmp_path, make):
    make(tmp_path / "in")
    with pytest.raises(DataError, match="in: expected .* found (none|nothing)"):
        open_input(tmp_path / "in")


def test_a_file_that_is_no_video_is_refused(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="cannot be read as a video"):
        open_input(tmp_path / "a.mp4")


@pytest.fixture
def video(tmp_path):
    av = pytest.importorskip("av")
    frames = np.random.default_rng(0).integers(0, 256, (7, 16, 24, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("png", rate=24)  # lossless
        stream.height, stream.width, stream.pix_fmt = 16, 24, "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return tmp_path / "a.mov", frames


def test_a_video_is_read_by_windows_that_overlap_and_skip(video):
    path, frames = video
    opened = open_input(path)
    assert (len(opened.names), opened.names[1], opened.shape, opened.frame_rate) == (
        7,
        "000001",
        (16, 24),
        24,
    )
    for start, stop in ((0, 3), (2, 5), (5, 7)):
        np.testing.assert_array_equal(opened.read(start, stop), frames[start:stop])
    later = open_input(path)
    np.testing.assert_array_equal(later.read(4, 7), frames[4:7])


def test_a_sequence_of_a_dataset_brings_its_spikes(dataset_root):
    (sequence,) = open_dataset(dataset_root).sequences("test")
    frames = open_input(sequence.folder)
    assert frames.names == list(sequence.stems)
    assert frames.frame_rate == open_dataset(dataset_root).manifest.frame_rate
    np.testing.assert_array_equal(frames.read(2, 3)[0], sequence.read_blurry(2))
    got = frames.spikes.voxels(slice(1, 3), slice(4, 12), slice(8, 20), num_bins=5)
    for offset, index in enumerate((1, 2)):
        crop = sequence.read_spikes(index, top=4, left=8, height=8, width=12)
        np.testing.assert_array_equal(got[offset].numpy(), voxels(crop, 5))


def test_a_sequence_is_played_as_fast_as_its_manifest_says(dataset_root, tmp_path):
    root = shutil.copytree(dataset_root, tmp_path / "data")
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps({**manifest, "frame_rate": 21.82}))
    assert open_input(root / "test" / "scene000").frame_rate == 21.82


def test_a_mapped_array_is_read_without_a_warning_and_stays_as_it_is(tmp_path):
    """Warnings are errors in these tests; PyTorch has one for arrays that cannot be written to, once."""
    bits = np.random.default_rng(0).integers(0, 2, (4, 8, 16), dtype=np.uint8)
    np.save(tmp_path / "s.npy", bits)
    torch.set_warn_always(True)
    try:
        read = exposures_of_recording(tmp_path / "s.npy", 2).voxels(
            slice(0, 2), slice(0, 8), slice(0, 16), num_bins=2
        )
    finally:
        torch.set_warn_always(False)
    assert torch.equal(read[0], torch.from_numpy(voxels(bits[:2], 2)))


def test_a_recording_divides_among_the_frames(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (12, 8, 16), dtype=np.uint8)
    write_spikes(tmp_path / "s.dat", bits)
    geometry = SpikeGeometry(8, 16)
    even = exposures_of_recording(tmp_path / "s.dat", 3, geometry=geometry)
    assert (even.starts, even.length, even.shape) == ([0, 4, 8], 4, (8, 16))
    whole = slice(0, 8), slice(0, 16)
    assert torch.equal(
        even.voxels(slice(1, 2), *whole, num_bins=2)[0], torch.from_numpy(voxels(bits[4:8], 2))
    )
    given = exposures_of_recording(tmp_path / "s.dat", 3, geometry=geometry, per_frame=3)
    assert (given.starts, given.length) == ([0, 3, 6], 3)


@pytest.mark.parametrize(
    ("frames", "per_frame", "text"),
    [
        (5, None, "12 spike frames do not divide among 5 frames; say .* by --spikes-per-frame"),
        (13, None, "do not divide among 13"),
        (3, 5, "expected 3 x 5 spike frames, found 12"),
    ],
)
def test_a_recording_of_another_length_is_refused(tmp_path, frames, per_frame, text):
    write_spikes(tmp_path / "s.dat", np.zeros((12, 8, 16), np.uint8))
    with pytest.raises(DataError, match=text):
        exposures_of_recording(tmp_path / "s.dat", frames, geometry=SpikeGeometry(8, 16), per_frame=per_frame)
