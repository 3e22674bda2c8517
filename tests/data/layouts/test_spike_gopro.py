import numpy as np
import pytest

from deblurkit.data.layouts.spike_gopro import read_spike_gopro
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.errors import DataError


@pytest.mark.parametrize("divisor", [2, 4])
def test_frames_and_spikes_are_those_that_were_written(tmp_path, trees, divisor):
    taken = trees.spike_gopro_tree(tmp_path, trees.takes(spike_divisor=divisor))
    source = read_spike_gopro(tmp_path, blur_variant="blur_gamma")
    assert (source.layout, source.spike_margin, source.blur_variant) == ("spike-gopro", 20, "blur_gamma")
    for sequence, take in zip(source.sequences, taken, strict=True):
        assert sequence.geometry == SpikeGeometry(48 // divisor, 64 // divisor)
        assert (sequence.spike_frames, sequence.recording_frames) == (97, 137)
        assert [e.stem for e in sequence.exposures] == take.stems[1:-1]  # the ends have no spikes
        for index in range(sequence.num_frames):
            np.testing.assert_array_equal(sequence.read_blurry(index), take.blurry(index + 1))
            np.testing.assert_array_equal(sequence.read_sharp(index), take.sharp(index + 1))
            for margin in (0, 20):
                np.testing.assert_array_equal(
                    sequence.read_spikes(index, margin=margin),
                    take.exposure_spikes(index + 1, frames=97, margin=margin),
                )


def test_a_lost_recording_is_no_error_before_it_is_read(tmp_path, trees):
    (take, *_) = trees.spike_gopro_tree(tmp_path)
    lost = tmp_path / take.split / "spike_data" / take.name / f"{take.stems[1]}.dat"
    lost.unlink()
    sequence = read_spike_gopro(tmp_path).sequences[0]
    with pytest.raises(DataError, match="no such spike recording") as caught:
        sequence.read_spikes(0)
    assert str(lost) in str(caught.value)


def test_a_first_frame_with_spikes_is_kept(tmp_path, trees):
    (take, *_) = trees.spike_gopro_tree(tmp_path)
    for kind in ("blur_data", "sharp_data"):
        (tmp_path / take.split / kind / take.name / f"{take.stems[0]}.png").unlink()
    assert [e.stem for e in read_spike_gopro(tmp_path).sequences[0].exposures] == take.stems[1:-1]


def test_nothing_in_it_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no sequence has three frames"):
        read_spike_gopro(tmp_path)
