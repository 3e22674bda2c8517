import numpy as np
import pytest

from deblurkit.data.decoding_checks import check_decoding, require_plausible
from deblurkit.data.scenes import draw_scene
from deblurkit.data.simulate import Camera, SpikeSensor, expose
from deblurkit.data.spikes import ArraySpikes, SpikeGeometry, open_spikes, write_spikes
from deblurkit.errors import DataError

HEIGHT, WIDTH = 80, 128


def record(seed, folder, *, gain=0.7, size=(2 * HEIGHT, 2 * WIDTH), sharp=17):
    """A recording of a procedural scene and the RGB frame at its middle."""
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng, size=size, duration=sharp)
    sensor = SpikeSensor(gain=gain, gain_sigma=0.02, threshold_jitter=0.02, false_spike_interval=(140, 50))
    camera = Camera(sensor=sensor, spike_shape=(size[0] // 2, size[1] // 2), sharp_per_exposure=sharp)
    (exposure,) = expose(map(scene.render, range(sharp)), rng, camera)
    write_spikes(folder / "a.dat", exposure.spikes)
    return folder / "a.dat", exposure.sharp


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return record(0, tmp_path_factory.mktemp("scene"))


def test_a_right_decoding_passes(scene):
    path, sharp = scene
    assert check_decoding(path, SpikeGeometry(HEIGHT, WIDTH), reference=sharp) == []
    require_plausible(path, SpikeGeometry(HEIGHT, WIDTH), reference=sharp)


@pytest.mark.parametrize("seed", range(1, 7))
@pytest.mark.parametrize("size", [(96, 128), (128, 192)])
@pytest.mark.parametrize("gain", [0.1, 0.7, 2.0])
def test_right_decodings_of_many_scenes_pass(tmp_path, seed, size, gain):
    path, sharp = record(seed, tmp_path, gain=gain, size=size, sharp=9)
    assert check_decoding(path, SpikeGeometry(size[0] // 2, size[1] // 2), reference=sharp) == []


@pytest.mark.parametrize(
    ("geometry", "words"),
    [
        (SpikeGeometry(40, 128), r"come round every 1280 bytes"),
        (SpikeGeometry(20, 128), r"come round every 1280 bytes"),
        (SpikeGeometry(160, 128), r"come round every 1280 bytes"),
        (SpikeGeometry(160, 64), "rows of 128 bits do .*frames of 80x128"),
        (SpikeGeometry(40, 256), "rows of 128 bits do .*frames of 80x128"),
        (SpikeGeometry(64, 160), "rows of 128 bits do .*frames of 80x128"),
        (SpikeGeometry(HEIGHT, WIDTH, bit_order="msb"), "bits looks reversed.*'lsb'"),
    ],
    ids=str,
)
def test_wrong_decodings_are_refused_from_the_spikes_alone(scene, geometry, words):
    with pytest.raises(DataError, match=f"a.dat: .*{words}"):
        require_plausible(scene[0], geometry)


def test_a_known_size_is_named(tmp_path):
    path, _ = record(0, tmp_path, size=(360, 640), sharp=5)
    (problem,) = check_decoding(path, SpikeGeometry(90, 320))
    assert "every 7200 bytes, the size of 180x320" in problem


@pytest.mark.parametrize(
    ("flip", "word"), [((1,), "upside down"), ((2,), "mirrored"), ((1, 2), "turned")], ids=lambda x: str(x)
)
def test_flips_show_against_a_reference(scene, flip, word):
    path, sharp = scene
    spikes = open_spikes(path, SpikeGeometry(HEIGHT, WIDTH)).read(0, 136)
    (problem,) = check_decoding(ArraySpikes(np.flip(spikes, flip)), reference=sharp)
    assert word in problem


def test_the_wrong_row_order_of_a_file_shows_against_a_reference(scene):
    with pytest.raises(DataError, match="upside down"):
        require_plausible(scene[0], SpikeGeometry(HEIGHT, WIDTH, bottom_up=False), reference=scene[1])


@pytest.mark.parametrize("value", [0, 1])
def test_a_recording_without_light_or_dark_says_nothing(tmp_path, value):
    write_spikes(tmp_path / "a.dat", np.full((40, 32, 64), value, np.uint8))
    for geometry in (SpikeGeometry(32, 64), SpikeGeometry(16, 64), SpikeGeometry(32, 64, bit_order="msb")):
        reference = np.zeros((64, 128, 3), np.uint8)
        assert check_decoding(tmp_path / "a.dat", geometry, reference=reference) == []


def test_a_flat_grey_scene_still_shows_its_frame_size(tmp_path):
    rng = np.random.default_rng(0)
    fired = np.floor(rng.random((32, 64)) + 0.3 * np.arange(101)[:, None, None])
    write_spikes(tmp_path / "a.dat", np.diff(fired, axis=0).astype(np.uint8))
    assert check_decoding(tmp_path / "a.dat", SpikeGeometry(32, 64)) == []
    assert check_decoding(tmp_path / "a.dat", SpikeGeometry(16, 64))


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_recording_of_hardly_any_frames_says_nothing_of_its_size(tmp_path, frames):
    spikes = (np.random.default_rng(0).random((frames, 16, 16)) < 0.3).astype(np.uint8)
    write_spikes(tmp_path / "a.dat", spikes)
    assert check_decoding(tmp_path / "a.dat", SpikeGeometry(16, 16)) == []


@pytest.mark.parametrize("rate", [0.03, 0.3, 0.9])
def test_independent_noise_says_nothing(tmp_path, rate):
    spikes = (np.random.default_rng(1).random((60, 48, 64)) < rate).astype(np.uint8)
    write_spikes(tmp_path / "a.dat", spikes)
    for geometry in (SpikeGeometry(48, 64), SpikeGeometry(24, 64), SpikeGeometry(48, 64, bit_order="msb")):
        assert check_decoding(tmp_path / "a.dat", geometry) == []


@pytest.mark.parametrize("direction", ["rows", "columns", "both"])
def test_stripes_that_repeat_within_a_frame_do_not_mislead(tmp_path, direction):
    y, x = np.mgrid[:64, :128]
    across = {"rows": y // 8 % 2, "columns": x // 16 % 2, "both": (y // 8 + x // 16) % 2}[direction]
    light = 0.1 + 0.4 * across
    phase = np.random.default_rng(0).random((64, 128))
    fired = np.floor(phase + light * np.arange(121)[:, None, None])
    write_spikes(tmp_path / "a.dat", np.diff(fired, axis=0).astype(np.uint8))
    assert check_decoding(tmp_path / "a.dat", SpikeGeometry(64, 128)) == []
