import cv2
import numpy as np
import pytest

from deblurkit.data.layouts.gopro import read_gopro
from deblurkit.data.layouts.gopro_all import SpikeSimulation, find_all_frames, simulated_spikes
from deblurkit.data.simulate import Camera, expose, gray
from deblurkit.errors import DataError


@pytest.fixture
def tree(tmp_path, trees):
    return trees.gopro_tree(tmp_path, spikes=None, all_frames=True)


def sequences(root):
    return read_gopro(root, require_spikes=False).sequences


def simulation(root, seed=0):
    return SpikeSimulation(find_all_frames(root, None), seed)


def test_spikes_are_those_of_a_sensor_that_ran_through_the_exposures(tmp_path, tree, trees):
    """Independently: the frames as they were drawn, put through `expose`, which the spikes must equal."""
    for take, sequence in zip(tree, sequences(tmp_path), strict=True):
        made = simulation(tmp_path, seed=3)
        camera = Camera(sensor=made.sensor, spike_shape=(24, 32), sharp_per_exposure=take.sharp_per_exposure)
        frames = take.frames[trees.LEAD : -trees.LEAD]
        expected = expose(iter(frames), made.generator(take.split, take.name), camera)
        for index, (spikes, exposure) in enumerate(
            zip(simulated_spikes(sequence, made), expected, strict=True)
        ):
            np.testing.assert_array_equal(spikes, exposure.spikes)
            np.testing.assert_array_equal(sequence.read_sharp(index), exposure.sharp)


def test_they_show_the_sharp_frame(tmp_path, tree):
    sequence = sequences(tmp_path)[1]
    for index, spikes in enumerate(simulated_spikes(sequence, simulation(tmp_path))):
        sharp = cv2.resize(gray(sequence.read_sharp(index)), (32, 24), interpolation=cv2.INTER_AREA)
        centre = len(spikes) // 2
        image = spikes[centre - 16 : centre + 17].mean(axis=0)
        assert np.corrcoef(image.ravel(), sharp.ravel())[0, 1] > 0.8


def test_every_sequence_and_seed_draws_its_own_numbers(tmp_path, tree):
    first, second = (SpikeSimulation(tmp_path, seed) for seed in (0, 1))
    draws = [
        float(simulated.generator(split, "a").random())
        for simulated in (first, second)
        for split in ("train", "test")
    ]
    assert len(set(draws)) == 4
    assert draws[0] == float(first.generator("train", "a").random())


def test_central_spikes_are_the_middle_of_all(tmp_path, tree):
    whole = next(simulated_spikes(sequences(tmp_path)[1], simulation(tmp_path)))
    source = read_gopro(tmp_path, require_spikes=False, central_spikes=56)
    central = next(simulated_spikes(source.sequences[1], simulation(tmp_path)))
    np.testing.assert_array_equal(central, whole[16:72])


def test_a_still_start_does_not_mislead(tmp_path, tree, trees):
    """The first sharp frame comes twice; only the second is followed by the others."""
    folder = tmp_path / "GOPRO_Large_all" / "train" / tree[0].name
    trees.write_png(folder / "000003.png", tree[0].sharp(0))  # where the search begins
    assert len(list(simulated_spikes(sequences(tmp_path)[0], simulation(tmp_path)))) == 4


def test_a_lost_frame_is_an_error_and_not_a_shift(tmp_path, tree):
    folder = tmp_path / "GOPRO_Large_all" / "train" / tree[0].name
    (folder / "000013.png").unlink()
    with pytest.raises(DataError, match=r"000048\.png: differs from .*, 7 frames after"):
        list(simulated_spikes(sequences(tmp_path)[0], simulation(tmp_path)))


def test_frames_that_are_not_there_are_errors_with_the_place(tmp_path, tree):
    made = simulation(tmp_path)
    train, test = sequences(tmp_path)
    for path in sorted(made.folder(train).glob("*.png"))[:6]:
        path.unlink()  # the next one is the centre of the first exposure
    with pytest.raises(DataError, match="28 frames, but the exposures of GOPR0001_07_00 need -3 to 25"):
        next(simulated_spikes(train, made))
    min(made.folder(train).glob("*.png")).unlink()
    with pytest.raises(DataError, match="none of the 27 frames in .* is equal to it"):
        next(simulated_spikes(train, made))
    for path in sorted(made.folder(test).glob("*.png"))[-4:]:
        path.unlink()
    with pytest.raises(DataError, match="46 frames, but the exposures of GOPR0002_11_00 need 3 to 47"):
        next(simulated_spikes(test, made))
    for path in made.folder(test).glob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="no frames to simulate"):
        next(simulated_spikes(test, made))


def test_where_the_frames_are(tmp_path, tree):
    place = tmp_path / "GOPRO_Large_all"
    assert find_all_frames(tmp_path, None) == place
    assert find_all_frames(tmp_path / "GOPRO_Large", None) == place
    assert find_all_frames(tmp_path, tmp_path) == place
    assert find_all_frames(tmp_path, place) == place
    for given in (None, tmp_path / "GOPRO_Large" / "train"):
        with pytest.raises(DataError, match="name it with --all DIR"):
            find_all_frames(tmp_path / "GOPRO_Large" / "train", given)
