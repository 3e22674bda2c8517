import pytest

from deblurkit.config.sections import TestSection
from deblurkit.data.clips import EvaluationPart
from deblurkit.data.unified import open_dataset
from deblurkit.errors import DataError
from deblurkit.training.held_out import check_tile, evaluation_clips, held_out_part, quick_sequences, tile_of


@pytest.mark.parametrize(("total", "expected"), [(11, [1, 5, 9]), (3, [0, 1, 2]), (2, [0, 1]), (1, [0])])
def test_a_quick_look_is_spread_over_the_split(total, expected):
    assert quick_sequences(total, 3) == expected


def test_a_tile_in_time_makes_windows_that_overlap(dataset_root, tiny_config):
    config = tiny_config("TEST.TILE=[3,32,32]", "TEST.TILE_OVERLAP=[2,8,8]")
    clips = evaluation_clips(open_dataset(dataset_root), config, split="test")
    assert clips.parts == [EvaluationPart(0, 0, 3, 0), EvaluationPart(0, 2, 5, 2)]  # of five frames


def test_without_one_clips_follow_one_another_and_the_last_reaches_back(dataset_root, tiny_config):
    config = tiny_config("TEST.TILE=[32,32]", "TEST.TILE_OVERLAP=[2,8,8]", "DATA.CLIP_LEN=2")
    clips = evaluation_clips(open_dataset(dataset_root), config, split="test")
    assert clips.parts == [(0, 0, 2, 0), (0, 2, 4, 2), (0, 3, 5, 4)]


def test_the_whole_test_section_reaches_the_validation(tiny_config):
    config = tiny_config("TEST.PROTOCOL=y", "TEST.QUICK_SEQUENCES=7")
    assert held_out_part(config).test == config.test
    assert tile_of(TestSection(TILE=(18, 192, 256)))[1:] == (192, 256)
    assert tile_of(TestSection()) is None


@pytest.mark.parametrize(
    ("tile", "overlap", "text"),
    [
        ((64, 64), (2, 40, 8), "TEST.TILE_OVERLAP: expected at most half of tiles of 64 x 64 px, got 40 x 8"),
        ((6, 64, 24), (0, 0, 0), "TEST.TILE: expected tiles of at least 2 x 64 x 33 for this network, got 6"),
        ((1, 64, 64), (0, 0, 0), "TEST.TILE: expected tiles of at least 2 x 64 x 33 .*, got 1 x 64 x 64"),
    ],
)
def test_tiles_that_cannot_be_restored_are_refused(tile, overlap, text):
    check_tile((6, 64, 64), (3, 32, 32), (2, 64, 33))
    with pytest.raises(DataError, match=text):
        check_tile(tile, overlap, (2, 64, 33))
