from dataclasses import replace

import cv2
import numpy as np
import pytest

from deblurkit.data.layouts.source import image_shape, read_image
from deblurkit.data.layouts.triples import read_triples
from deblurkit.errors import DataError


def picture():
    return np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def test_an_image_and_its_shape(tmp_path, trees):
    trees.write_png(tmp_path / "a.png", picture())
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture())
    assert image_shape(tmp_path / "a.png") == (24, 40)
    cv2.imwrite(str(tmp_path / "a.bmp"), picture())
    assert image_shape(tmp_path / "a.bmp") == (24, 40)


@pytest.mark.parametrize("damage", [lambda d: d[:-20], lambda d: d[:200] + b"x" + d[201:], lambda d: b""])
def test_a_cut_or_changed_png_is_damaged_and_named(tmp_path, trees, damage):
    path = tmp_path / "a.png"
    trees.write_png(path, picture())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="damaged") as caught:
        read_image(path)
    assert str(caught.value).startswith(str(path))


def test_missing_images_are_named(tmp_path):
    for read in (read_image, image_shape):
        with pytest.raises(DataError, match="no.png"):
            read(tmp_path / "no.png")


def test_a_recording_of_another_length_or_too_short_is_an_error(tmp_path, trees):
    trees.triples_tree(tmp_path)
    sequence = read_triples(tmp_path).sequences[0]
    path = sequence.exposures[1].spikes
    path.write_bytes(path.read_bytes() + bytes(sequence.geometry.frame_bytes))
    with pytest.raises(DataError, match=r"000048\.dat: 57 spike frames, 56 expected"):
        sequence.read_spikes(1)
    anyone = replace(sequence, recording_frames=None)
    np.testing.assert_array_equal(anyone.read_spikes(1), trees.takes()[0].exposure_spikes(1))
    with pytest.raises(DataError, match=r"57 spike frames, but frame 000048 needs -1 to 57"):
        anyone.read_spikes(1, margin=1)
