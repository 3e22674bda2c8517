import numpy as np
import pytest

from deblurkit.data.layouts.geometry import configured_geometry, geometry_by_count, geometry_by_picture
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.errors import DataError


def file_of(path, size):
    path.write_bytes(bytes(size))
    return path


@pytest.mark.parametrize(
    ("divisor", "frame_bytes"),
    [(1, 720 * 1280 // 8), (2, 28_800), (4, 7_200)],  # the last two as specs/data.md gives them
)
def test_the_size_is_the_one_with_which_files_hold_what_they_should(tmp_path, divisor, frame_bytes):
    recordings = [(file_of(tmp_path / f"{n}.dat", n * frame_bytes), n) for n in (3, 5)]
    geometry = geometry_by_count(recordings, (720, 1280), usual_divisor=2)
    assert geometry == SpikeGeometry(720 // divisor, 1280 // divisor)


def test_one_cut_file_and_one_missing_do_not_mislead(tmp_path):
    whole = [(file_of(tmp_path / f"{n}.dat", 137 * 96), 137) for n in range(3)]
    cut = (file_of(tmp_path / "cut.dat", 80 * 96), 137)
    missing = (tmp_path / "missing.dat", 137)
    geometry = geometry_by_count([cut, missing, *whole], (48, 64), usual_divisor=4)
    assert geometry == SpikeGeometry(24, 32)


def test_where_sizes_do_not_tell_the_usual_one_is_taken(tmp_path):
    missing = [(tmp_path / "missing.dat", 56)]
    assert geometry_by_count(missing, (48, 64), usual_divisor=2) == SpikeGeometry(24, 32)
    short = [(file_of(tmp_path / "short.dat", 55 * 96), 56)]
    assert geometry_by_count(short, (48, 64), usual_divisor=2) == SpikeGeometry(24, 32)


def test_a_size_that_fits_nothing_is_an_error_with_what_was_tried(tmp_path):
    odd = [(file_of(tmp_path / "odd.dat", 56 * 96 + 1), 56)]
    with pytest.raises(DataError, match=r"odd\.dat: 5377 bytes .* 48x64 pixels: 24x32, 48x64, 12x16"):
        geometry_by_count(odd, (48, 64), usual_divisor=2)
    with pytest.raises(DataError, match="rows of whole bytes"):
        geometry_by_count(odd, (48, 60), usual_divisor=2)


@pytest.fixture
def pairs(tmp_path, trees):
    """Recordings of 48x64, whose files are whole 24x32 and 12x16 frames too, and their blurry frames."""
    trees.triples_tree(tmp_path, trees.takes(size=(96, 128)), config=False)
    found = sorted(tmp_path.glob("*/*/spike/*.dat"))
    return [(path, path.parents[1] / "blur" / f"{path.stem}.png") for path in found]


def test_pictures_decide_between_sizes_that_fit(tmp_path, pairs):
    assert geometry_by_picture(pairs, root=tmp_path) == SpikeGeometry(48, 64)
    assert geometry_by_picture(pairs[:1], root=tmp_path) == SpikeGeometry(48, 64)


def test_damaged_pairs_do_not_mislead(tmp_path, pairs):
    size = pairs[0][0].stat().st_size
    pairs[0][0].write_bytes(np.random.default_rng(0).bytes(size))
    pairs[2][0].write_bytes(b"cut")
    pairs[4][1].write_bytes(b"no picture")
    assert geometry_by_picture(pairs, root=tmp_path) == SpikeGeometry(48, 64)


def test_a_recording_upside_down_still_tells_its_size(tmp_path, pairs):
    path, picture = pairs[0]
    upright = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 48, 8)
    path.write_bytes(upright[:, ::-1].tobytes())
    assert geometry_by_picture([(path, picture)], root=tmp_path) == SpikeGeometry(48, 64)


def test_pictures_that_decide_nothing_are_an_error_that_asks_for_a_config(tmp_path, trees):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    trees.write_png(tmp_path / "a.png", noise)
    recording = file_of(tmp_path / "a.dat", 96 * 40)
    with pytest.raises(DataError, match=r"fits spike frames of .*24x32.*/config\.yaml"):
        geometry_by_picture([(recording, tmp_path / "a.png")], root=tmp_path)
    with pytest.raises(DataError, match=r"fit no frame size .*48x64 .*/config\.yaml"):
        geometry_by_picture([(file_of(tmp_path / "b.dat", 97), tmp_path / "a.png")], root=tmp_path)


def test_a_config_is_the_first_one_found(tmp_path):
    assert configured_geometry([tmp_path]) is None
    (tmp_path / "config.yaml").write_text("spike_h: 250\nspike_w: 400\nfilename: x\n")
    assert configured_geometry([tmp_path / "no", tmp_path]) == SpikeGeometry(250, 400)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spike_h: [", "cannot be read as YAML"),
        ("spike_h: 250", "got 250 and None"),
        ("- 250", "got None and None"),
        ("spike_h: 250\nspike_w: 401", "whole bytes"),
    ],
)
def test_a_config_that_makes_no_size_is_an_error(tmp_path, text, message):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        configured_geometry([tmp_path])
    assert str(caught.value).startswith(str(tmp_path / "config.yaml"))
