from pathlib import Path

import numpy as np
import pytest

from deblurkit.data.checks.sequence import Expectations, check_sequence, coarse, spikes_around
from deblurkit.data.layouts.source import SourceExposure, SourceSequence
from deblurkit.data.spikes import SpikeGeometry, write_spikes

FRAMES = 6
NOWHERE = Path("none.png")


@pytest.fixture
def time_line():
    """Spikes of three exposures, every frame of them different."""
    return (np.random.default_rng(0).random((3 * FRAMES, 8, 16)) < 0.5).astype(np.uint8)


def sequence(paths, starts):
    exposures = tuple(
        SourceExposure(str(index), NOWHERE, NOWHERE, path, start)
        for index, (path, start) in enumerate(zip(paths, starts, strict=True))
    )
    return SourceSequence("train", "a", exposures, FRAMES, None, SpikeGeometry(8, 16))


def of_a_sequence(folder, line):
    write_spikes(folder / "all.dat", line)
    return sequence([folder / "all.dat"] * 3, [0, FRAMES, 2 * FRAMES])


def by_frame(folder, line, margin=0):
    paths = [folder / f"{index}.dat" for index in range(3)]
    padded = np.concatenate([np.zeros_like(line[:margin]), line, np.zeros_like(line[:margin])])
    for index, path in enumerate(paths):
        write_spikes(path, padded[index * FRAMES : (index + 1) * FRAMES + 2 * margin])
    return sequence(paths, [margin] * 3)


def test_a_recording_of_the_sequence_reaches_one_exposure_either_way(tmp_path, time_line):
    one = of_a_sequence(tmp_path, time_line)
    for index, (low, high, start) in enumerate([(0, 12, 0), (0, 18, 6), (6, 18, 6)]):
        spikes, offset = spikes_around(one, index, frozenset())
        np.testing.assert_array_equal(spikes, time_line[low:high])
        assert offset == start


@pytest.mark.parametrize("margin", [0, 2])
def test_recordings_of_single_frames_are_joined_in_time(tmp_path, time_line, margin):
    one = by_frame(tmp_path, time_line, margin)
    spikes, offset = spikes_around(one, 1, frozenset())
    np.testing.assert_array_equal(spikes, time_line)
    assert offset == FRAMES
    spikes, offset = spikes_around(one, 1, frozenset([tmp_path / "0.dat", tmp_path / "2.dat"]))
    np.testing.assert_array_equal(spikes, time_line[FRAMES - margin : 2 * FRAMES + margin])
    assert offset == margin


def test_cells_of_large_sensors_are_summed():
    spikes = np.ones((2, 361, 640), np.uint8)
    assert coarse(spikes).shape == (2, 180, 320) and (coarse(spikes) == 4).all()
    assert coarse(spikes[:, :250, :400]).shape == (2, 250, 400)


def test_an_exposure_without_a_spike_is_named(tmp_path, time_line):
    time_line[FRAMES : 2 * FRAMES] = 0
    result = check_sequence(by_frame(tmp_path, time_line), Expectations(tmp_path))
    silent = [problem for problem in result.problems if problem.kind == "rate"]
    assert [problem.path for problem in silent] == [tmp_path / "1.dat"]
    assert "not one spike in the exposure of frame 1" in silent[0].message
    assert result.report.spike_rate == pytest.approx(time_line.mean())
    assert result.report.score is None  # there is no blurry frame


def test_a_recording_of_more_exposures_than_frames_is_a_count(tmp_path, time_line):
    write_spikes(tmp_path / "all.dat", time_line)
    result = check_sequence(sequence([tmp_path / "all.dat"] * 2, [0, FRAMES]), Expectations(tmp_path))
    (count,) = (problem for problem in result.problems if problem.kind == "count")
    assert "18 spike frames, the 2 blurry frames account for 12" in count.message
