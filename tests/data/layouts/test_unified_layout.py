import numpy as np
import pytest

from deblurkit.data.layouts.unified_layout import read_unified
from deblurkit.data.unified import open_dataset
from deblurkit.errors import DataError


def test_frames_and_spikes_are_those_that_were_written_and_those_that_training_reads(tmp_path, trees):
    taken = trees.unified_tree(tmp_path)
    source = read_unified(tmp_path)
    ours = [s for split in ("train", "test") for s in open_dataset(tmp_path).sequences(split)]
    assert (source.layout, source.blur_variant, source.spikes_per_sharp_frame) == ("unified", "blur", 8)
    for sequence, take, own in zip(source.sequences, taken, ours, strict=True):
        assert sequence.recording_frames == len(take.spikes)
        for index in range(take.num_frames):
            np.testing.assert_array_equal(sequence.read_blurry(index), take.blurry(index))
            np.testing.assert_array_equal(sequence.read_sharp(index), take.sharp(index))
            np.testing.assert_array_equal(sequence.read_spikes(index), take.exposure_spikes(index))
            np.testing.assert_array_equal(sequence.read_spikes(index), own.read_spikes(index))


def test_packed_frames_are_not_read_one_by_one(tmp_path, trees):
    trees.unified_tree(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"storage": "png"', '"storage": "packed"'))
    with pytest.raises(DataError, match="its frames are packed"):
        read_unified(tmp_path)
