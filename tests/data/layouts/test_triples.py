import numpy as np
import pytest

from deblurkit.data.layouts.triples import read_triples
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.errors import DataError


@pytest.mark.parametrize("config", [True, False])
@pytest.mark.parametrize("divisor", [1, 2])
def test_frames_and_spikes_are_those_that_were_written(tmp_path, trees, config, divisor):
    taken = trees.triples_tree(tmp_path, trees.takes(spike_divisor=divisor), config=config)
    source = read_triples(tmp_path)
    assert (source.layout, source.spike_margin) == ("triples", 0)
    for sequence, take in zip(source.sequences, taken, strict=True):
        assert sequence.geometry == SpikeGeometry(48 // divisor, 64 // divisor)
        assert sequence.spike_frames == sequence.recording_frames == take.spikes_per_exposure
        assert [e.stem for e in sequence.exposures] == take.stems
        for index in range(take.num_frames):
            np.testing.assert_array_equal(sequence.read_blurry(index), take.blurry(index))
            np.testing.assert_array_equal(sequence.read_sharp(index), take.sharp(index))
            np.testing.assert_array_equal(sequence.read_spikes(index), take.exposure_spikes(index))


def test_a_config_may_lie_with_a_sequence(tmp_path, trees):
    trees.triples_tree(tmp_path)
    (tmp_path / "config.yaml").rename(tmp_path / "test" / "clip0002" / "config.yaml")
    assert read_triples(tmp_path).sequences[0].geometry == SpikeGeometry(24, 32)


def test_what_only_one_kind_has_belongs_to_the_sequence(tmp_path, trees):
    trees.triples_tree(tmp_path)
    folder = tmp_path / "train" / "clip0001"
    (folder / "blur" / "000047.png").unlink()
    (folder / "spike" / "000048.dat").unlink()
    sequence = read_triples(tmp_path).sequences[0]
    assert sequence.num_frames == 4
    with pytest.raises(DataError, match=r"blur/000047\.png: missing"):
        sequence.read_blurry(0)
    with pytest.raises(DataError, match=r"spike/000048\.dat: no such"):
        sequence.read_spikes(1)


def test_most_recordings_say_how_long_one_is(tmp_path, trees):
    trees.triples_tree(tmp_path)
    path = tmp_path / "train" / "clip0001" / "spike" / "000047.dat"
    path.write_bytes(path.read_bytes()[: 40 * 96])
    sequence = read_triples(tmp_path).sequences[0]
    assert sequence.spike_frames == 56
    with pytest.raises(DataError, match="40 spike frames, 56 expected"):
        sequence.read_spikes(0)


def test_a_sequence_without_recordings_promises_what_the_others_have(tmp_path, trees):
    trees.triples_tree(tmp_path)
    for path in (tmp_path / "test" / "clip0002" / "spike").iterdir():
        path.unlink()
    assert read_triples(tmp_path).sequences[1].spike_frames == 56


def test_no_recording_that_fits_is_an_error(tmp_path, trees):
    trees.triples_tree(tmp_path)
    for path in tmp_path.glob("*/*/spike/*.dat"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"no recording is a whole number of 24x32 spike frames \(96 bytes"):
        read_triples(tmp_path)
    for path in tmp_path.glob("*/*/spike/*.dat"):
        path.unlink()
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(DataError, match="no frame has both a blurry image and a recording"):
        read_triples(tmp_path)
