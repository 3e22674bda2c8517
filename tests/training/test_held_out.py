import pytest

from deblurkit.config.sections.run import TestSection
from deblurkit.data.clips import EvaluationPart
from deblurkit.data.unified import UnifiedDataset, open_dataset
from deblurkit.errors import DataError, DeblurkitError
from deblurkit.training.held_out import check_tile, evaluation_clips, held_out_part, quick_sequences, tile_of


@pytest.mark.parametrize(("total", "expected"), [(11, [1, 5, 9]), (3, [0, 1, 2]), (2, [0, 1]), (1, [0])])
def test_a_quick_look_is_spread_over_the_split(total, expected):
    assert quick_sequences(total, 3) == expected


def test_a_tile_in_time_makes_windows_that_overlap(dataset_root, tiny_config):
    config = tiny_config("TEST.TILE=[3,32,32]", "TEST.TILE_OVERLAP=[2,8,8]")
    clips = evaluation_clips(open_dataset(dataset_root), config, split="test")
    assert clips.parts == [EvaluationPart(0, 0, 3, 0), EvaluationPart(0, 2, 5, 2)]  # of five frames


def test_frames_that_cannot_be_cut_into_the_tiles_are_found_before_the_first_step(dataset_root, tiny_config):
    """Spike pixels 3 wide: tiles of 16 px and what they share, 8 px, are both 24 px."""
    manifest = open_dataset(dataset_root).manifest.model_copy(
        update={"frame_shape": (48, 72), "spike_shape": (16, 24)}
    )
    dataset, tile = UnifiedDataset(dataset_root, manifest), "TEST.TILE=[16,16]"
    with pytest.raises(DeblurkitError, match="got tiles of 24 x 24 px that overlap by 24 x 24 px"):
        evaluation_clips(dataset, tiny_config(tile, "TEST.TILE_OVERLAP=[0,8,8]"), split="test")
    evaluation_clips(dataset, tiny_config(tile, "TEST.TILE_OVERLAP=[0,0,0]"), split="test")
    without = tiny_config(tile, "TEST.TILE_OVERLAP=[0,8,8]", "MODEL.USE_SPIKE=false")
    evaluation_clips(dataset, without, split="test")


def test_spikes_can_be_shuffled_in_clips_of_two_frames(dataset_root, tiny_config):
    single = tiny_config("DATA.CLIP_LEN=1", "MODEL.ARCH=baseline")
    assert not held_out_part(single).can_shuffle
    assert held_out_part(tiny_config("DATA.CLIP_LEN=2")).can_shuffle
    assert held_out_part(
        tiny_config("DATA.CLIP_LEN=1", "TEST.TILE=[2,32,32]", "TEST.TILE_OVERLAP=[0,8,8]")
    ).can_shuffle


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
