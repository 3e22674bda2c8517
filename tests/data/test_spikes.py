import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblurkit.data.spikes import SpikeGeometry, geometries_of_size, open_spikes, pack_spikes, write_spikes
from deblurkit.errors import DataError


def random_spikes(seed, shape):
    return (np.random.default_rng(seed).random(shape) < 0.3).astype(np.uint8)


def decode_by_hand(data, geometry):
    """One bit at a time, straight from the words of the format: an independent slow decoder."""
    frames = len(data) // geometry.frame_bytes
    image = np.zeros((frames, geometry.height, geometry.width), dtype=np.uint8)
    for t in range(frames):
        for disk_row in range(geometry.height):
            y = geometry.height - 1 - disk_row if geometry.bottom_up else disk_row
            for x in range(geometry.width):
                byte = data[t * geometry.frame_bytes + disk_row * geometry.row_bytes + x // 8]
                shift = x % 8 if geometry.bit_order == "lsb" else 7 - x % 8
                image[t, y, x] = byte >> shift & 1
    return image


def test_bits_written_by_hand_land_where_the_format_says(tmp_path):
    # Two rows of eight pixels. Disk row 0 is the bottom: 0b00000011 sets its pixels 0 and 1.
    # Disk row 1 is the top: 0b10000000 sets its pixel 7.
    (tmp_path / "a.dat").write_bytes(bytes([0b00000011, 0b10000000]))
    frame = open_spikes(tmp_path / "a.dat", SpikeGeometry(2, 8)).read(0, 1)[0]
    assert frame.tolist() == [[0, 0, 0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0, 0, 0]]


def test_packing_gives_the_bytes_written_by_hand():
    spikes = np.array([[[0, 0, 0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 0, 0, 0]]], dtype=np.uint8)
    assert pack_spikes(spikes).tobytes() == bytes([0b00000011, 0b10000000])


@pytest.mark.parametrize("bit_order", ["lsb", "msb"])
@pytest.mark.parametrize("bottom_up", [True, False])
@pytest.mark.parametrize("header_columns", [0, 16])
def test_reading_agrees_with_a_bit_by_bit_decoder(tmp_path, bit_order, bottom_up, header_columns):
    geometry = SpikeGeometry(5, 24, header_columns, bit_order, bottom_up)
    data = np.random.default_rng(0).integers(0, 256, 3 * geometry.frame_bytes, dtype=np.uint8).tobytes()
    (tmp_path / "a.dat").write_bytes(data)
    stream = open_spikes(tmp_path / "a.dat", geometry)
    assert stream.shape == (3, 5, 24)
    np.testing.assert_array_equal(stream.read(0, 3), decode_by_hand(data, geometry))


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("spikes") / "a.dat"
    spikes = random_spikes(1, (6, 10, 32))
    write_spikes(path, spikes)
    return path, spikes


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_crop_equals_the_crop_of_the_whole(recording, data):
    path, spikes = recording
    ranges = []
    for length in spikes.shape:
        low = data.draw(st.integers(0, length - 1))
        ranges.append((low, data.draw(st.integers(low + 1, length))))
    (start, stop), (top, bottom), (left, right) = ranges
    for bottom_up in (True, False):
        whole = spikes if bottom_up else spikes[:, ::-1]
        stream = open_spikes(path, SpikeGeometry(10, 32, bottom_up=bottom_up))
        crop = stream.read(start, stop, top=top, left=left, height=bottom - top, width=right - left)
        assert crop.dtype == np.uint8
        assert crop.flags.c_contiguous
        np.testing.assert_array_equal(crop, whole[start:stop, top:bottom, left:right])


def test_crops_outside_the_recording_are_the_callers_mistake(recording):
    stream = open_spikes(recording[0], SpikeGeometry(10, 32))
    for start, stop, left in [(0, 7, 0), (3, 3, 0), (-1, 2, 0), (0, 1, 32)]:
        with pytest.raises(ValueError, match="outside a recording of shape"):
            stream.read(start, stop, left=left)


def test_a_pickled_stream_is_small_and_reads_the_same(recording):
    stream = open_spikes(recording[0], SpikeGeometry(10, 32))
    before = stream.read(0, 6)
    pickled = pickle.dumps(stream)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).read(0, 6), before)


def test_npz_and_npy_are_read_upright(tmp_path):
    spikes = random_spikes(2, (4, 5, 6))
    np.savez(tmp_path / "a.npz", spk=spikes)
    np.save(tmp_path / "a.npy", spikes.astype(bool))
    for name in ("a.npz", "a.npy"):
        stream = open_spikes(tmp_path / name)
        assert stream.shape == (4, 5, 6)
        np.testing.assert_array_equal(stream.read(1, 3, top=1, left=2, width=3), spikes[1:3, 1:, 2:5])


@pytest.mark.parametrize("depth", ["a.dat", "spike/a.dat", "train/spike/a.dat"])
def test_geometry_comes_from_a_config_beside_or_above(tmp_path, depth):
    path = tmp_path / depth
    spikes = random_spikes(3, (2, 10, 32))
    write_spikes(path, spikes)
    (tmp_path / "config.yaml").write_text("filename: a\nspike_w: 32\nspike_h: 10\n")
    np.testing.assert_array_equal(open_spikes(path).read(0, 2), spikes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("spike_w: 32\n", "spike_h and spike_w expected"),
        ("spike_w: [\n", "cannot be read as YAML"),
        ("- 1\n", "no mapping"),
        ("spike_w: 30\nspike_h: 10\n", "does not fill whole bytes"),
    ],
)
def test_a_bad_config_is_named(tmp_path, text, words):
    write_spikes(tmp_path / "a.dat", random_spikes(3, (2, 10, 32)))
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(DataError, match=f"config.yaml: .*{words}"):
        open_spikes(tmp_path / "a.dat")


def test_without_geometry_the_common_sizes_that_fit_are_listed(tmp_path):
    (tmp_path / "a.dat").write_bytes(bytes(3 * 12_500))
    with pytest.raises(DataError, match=r"does not tell its size.* fit: 250x400$"):
        open_spikes(tmp_path / "a.dat")


def test_a_truncated_file_is_refused_with_its_numbers(tmp_path):
    (tmp_path / "a.dat").write_bytes(bytes(3 * 12_500 - 100))
    with pytest.raises(DataError) as caught:
        open_spikes(tmp_path / "a.dat", SpikeGeometry(250, 400))
    message = str(caught.value)
    assert all(
        part in message
        for part in ("a.dat", "37400 bytes", "12500 bytes each", "12400 left over", "truncated")
    )


def test_a_size_that_fits_another_geometry_is_said(tmp_path):
    (tmp_path / "a.dat").write_bytes(bytes(3 * 28_800))
    with pytest.raises(DataError, match="its size would fit 360x640, 180x320"):
        open_spikes(tmp_path / "a.dat", SpikeGeometry(250, 400))


def test_common_sizes_of_nothing_are_none():
    assert geometries_of_size(0) == []


def test_damaged_files_each_get_one_clear_line(tmp_path):
    (tmp_path / "empty.dat").write_bytes(b"")
    (tmp_path / "folder.dat").mkdir()
    (tmp_path / "a.raw").write_bytes(b"1")
    (tmp_path / "text.npz").write_bytes(b"not an archive")
    (tmp_path / "text.npy").write_bytes(b"not an array")
    np.savez(tmp_path / "key.npz", other=np.zeros((2, 3, 4), np.uint8))
    np.save(tmp_path / "flat.npy", np.zeros((3, 4), np.uint8))
    np.save(tmp_path / "float.npy", np.zeros((2, 3, 4), np.float32))
    np.save(tmp_path / "grey.npy", np.full((2, 3, 4), 7, np.uint8))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "object.npz", spk=np.array([{}], dtype=object))
    expected = {
        "missing.dat": "no such spike recording",
        "empty.dat": r"is empty \(0 bytes\)",
        "folder.dat": "is a folder",
        "a.raw": "unknown kind",
        "text.npz": "cannot be read",
        "text.npy": "cannot be read",
        "key.npz": "no array named spk, only other",
        "flat.npy": r"uint8 and shape \(T, H, W\) expected, got uint8 \(3, 4\)",
        "float.npy": "got float32",
        "grey.npy": "0 or 1, this array goes up to 7",
        "object.npy": "cannot be read",
        "object.npz": "cannot be read",
    }
    for name, words in expected.items():
        with pytest.raises(DataError, match=words) as caught:
            open_spikes(tmp_path / name, SpikeGeometry(8, 8))
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_array_of_another_size_than_asked_for_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(DataError, match="frames of 8x8 expected"):
        open_spikes(tmp_path / "a.npy", SpikeGeometry(8, 8))


def test_a_recording_that_vanishes_after_opening_is_an_error(tmp_path):
    write_spikes(tmp_path / "a.dat", random_spikes(3, (2, 10, 32)))
    stream = open_spikes(tmp_path / "a.dat", SpikeGeometry(10, 32))
    (tmp_path / "a.dat").unlink()
    with pytest.raises(DataError, match="cannot be mapped"):
        stream.read(0, 1)


@pytest.mark.parametrize(
    "arguments", [(0, 8), (8, 0), (8, 12), (8, 8, 3), (8, 8, -8), (8, 8, 0, "big")], ids=str
)
def test_impossible_geometries_are_the_callers_mistake(arguments):
    with pytest.raises(ValueError):
        SpikeGeometry(*arguments)


def test_packing_needs_whole_bytes():
    with pytest.raises(ValueError, match="multiple of 8"):
        pack_spikes(np.zeros((1, 2, 12), np.uint8))
