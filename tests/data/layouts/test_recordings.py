import numpy as np
import pytest

from deblurkit.data.layouts.recordings import read_recordings
from deblurkit.data.layouts.source import read_image
from deblurkit.data.spikes import SpikeGeometry, open_spikes
from deblurkit.errors import DataError


def test_every_recording_comes_with_the_image_of_its_middle(tmp_path, trees):
    taken = trees.recordings_tree(tmp_path)
    found = read_recordings(tmp_path)
    assert found.layout == "recordings"
    for recording, take in zip(found.recordings, taken, strict=True):
        assert (recording.split, recording.name) == (take.split, take.name)
        assert recording.geometry == SpikeGeometry(24, 32)
        np.testing.assert_array_equal(read_image(recording.reference), take.sharp(1))
        assert open_spikes(recording.path, recording.geometry).shape == (41, 24, 32)


def test_a_config_is_believed_and_lost_files_are_kept_in_the_list(tmp_path, trees):
    (first, second) = trees.recordings_tree(tmp_path)
    (tmp_path / "config.yaml").write_text("spike_h: 12\nspike_w: 64\n")
    (tmp_path / first.split / "gt" / f"{first.name}.png").unlink()
    (tmp_path / second.split / "spike" / f"{second.name}.dat").unlink()
    found = read_recordings(tmp_path).recordings
    assert [recording.geometry for recording in found] == [SpikeGeometry(12, 64)] * 2
    assert [(r.path.exists(), r.reference.exists()) for r in found] == [(True, False), (False, True)]
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(DataError, match="no recording in spike has an image of its name in gt"):
        read_recordings(tmp_path)
