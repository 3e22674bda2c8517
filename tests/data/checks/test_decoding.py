from dataclasses import replace

import pytest

from deblurkit.data.checks.decoding import Look, check_orientation, check_recording
from deblurkit.data.spikes import SpikeGeometry, write_spikes

GEOMETRY = SpikeGeometry(48, 64)


@pytest.fixture(scope="module")
def take(trees):
    return trees.takes(names=(("train", "GOPR0101_13_00"),), size=(96, 128))[0]


@pytest.fixture
def path(take, tmp_path):
    write_spikes(tmp_path / "a.dat", take.spikes)
    return tmp_path / "a.dat"


def test_a_right_decoding_passes(path):
    assert check_recording(path, GEOMETRY) == []


@pytest.mark.parametrize(
    ("geometry", "kind"),
    [
        (replace(GEOMETRY, bit_order="msb"), "bit-order"),
        (SpikeGeometry(24, 64), "geometry"),
        (SpikeGeometry(96, 32), "geometry"),
    ],
    ids=str,
)
def test_a_wrong_one_is_told_by_its_kind(path, geometry, kind):
    (problem,) = check_recording(path, geometry)
    assert (problem.path, problem.kind) == (path, kind)


def test_most_exposures_decide_whether_a_recording_is_flipped(take, path):
    right = [Look(take.exposure_spikes(index), take.sharp(index)) for index in range(3)]
    wrong = [Look(look.spikes[:, ::-1], look.picture) for look in right]
    assert check_orientation(path, right) == []
    assert check_orientation(path, [*right[:2], wrong[2]]) == []
    (problem,) = check_orientation(path, [right[0], *wrong[1:]])
    assert problem.kind == "flipped" and "upside down" in problem.message
    assert check_orientation(path, []) == []
