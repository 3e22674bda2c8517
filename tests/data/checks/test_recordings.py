import numpy as np
import pytest

from deblurkit.data.checks.recordings import check_recording_pair
from deblurkit.data.layouts.recordings import read_recordings


@pytest.fixture
def folder(trees, tmp_path):
    trees.recordings_tree(tmp_path, trees.takes(names=(("train", "GOPR0101_13_00"),), size=(96, 128)))
    return tmp_path


def checked(folder, *, quick=False):
    (recording,) = read_recordings(folder).recordings
    return check_recording_pair(recording, quick=quick)


def change(folder, of):
    path = folder / "train" / "spike" / "GOPR0101_13_00.dat"
    frames = np.fromfile(path, np.uint8).reshape(-1, 48, 8)
    path.write_bytes(np.ascontiguousarray(of(frames)).tobytes())
    return path


@pytest.mark.parametrize("quick", [False, True])
def test_a_whole_recording_passes_and_looks_like_its_picture(folder, quick):
    result = checked(folder, quick=quick)
    assert result.problems == ()
    assert result.report.score > 0.9 and 0.1 < result.report.spike_rate < 0.5


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda frames: frames[:, ::-1], "flipped"),
        (lambda frames: np.packbits(np.unpackbits(frames, axis=-1, bitorder="little"), axis=-1), "bit-order"),
        (lambda frames: 0 * frames, "rate"),
        (lambda frames: frames.ravel()[:-7], "truncated"),
    ],
)
def test_damage_to_the_spikes_is_named(folder, damage, kind):
    recording = read_recordings(folder).recordings[0]
    path = change(folder, damage)
    result = check_recording_pair(recording, quick=False)
    assert [(problem.path, problem.kind) for problem in result.problems] == [(path, kind)]


@pytest.mark.parametrize("lost", ["spike/GOPR0101_13_00.dat", "gt/GOPR0101_13_00.png"])
def test_either_file_may_be_missing(folder, lost):
    recording = read_recordings(folder).recordings[0]
    (folder / "train" / lost).unlink()
    (problem,) = check_recording_pair(recording, quick=False).problems
    assert (problem.path, problem.kind) == (folder / "train" / lost, "missing")
