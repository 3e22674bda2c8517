import pytest

from deblurkit.config.schema import as_values
from deblurkit.errors import DeblurkitError
from deblurkit.training.agreement import require_same_config, require_same_make, require_same_place
from deblurkit.training.distributed import ALONE


class Beside:
    """Rank 1, beside a rank 0 that has passed in something of its own."""

    def __init__(self, first):
        self.first = first

    def gather(self, value):
        return [self.first, value]


def test_ranks_that_see_other_folders_are_told_apart(tmp_path):
    require_same_place(Beside(7), "the step", 7, tmp_path)
    with pytest.raises(DeblurkitError, match=r"is 7 on rank 0 and none on rank 1.*shared file system"):
        require_same_place(Beside(7), "the step", None, tmp_path)


def test_another_optimiser_on_a_node_is_refused():
    require_same_make(Beside("AdamW8bit"), "the optimiser", "AdamW8bit")
    with pytest.raises(DeblurkitError, match="AdamW8bit on rank 0 and AdamW on rank 1; .* same packages"):
        require_same_make(Beside("AdamW8bit"), "the optimiser", "AdamW")


def test_settings_that_decide_the_result_or_when_ranks_meet_have_to_be_the_same(tiny_config):
    first = tiny_config()
    require_same_config(ALONE, first)
    require_same_config(Beside(as_values(first)), first)
    other = tiny_config("TRAIN.OPTIM.LR=0.5", "LOG.VAL_EVERY_STEPS=7")
    with pytest.raises(DeblurkitError) as caught:
        require_same_config(Beside(as_values(first)), other)
    assert str(caught.value) == (
        "ranks were started with other settings: LOG.VAL_EVERY_STEPS is 0 on rank 0 and 7 on rank 1,"
        " TRAIN.OPTIM.LR is 0.001 on rank 0 and 0.5 on rank 1; give every node the same options"
    )


def test_what_a_node_has_room_for_and_where_its_files_are_is_its_own_affair(tiny_config, tmp_path):
    other = tiny_config(
        f"DATA.ROOT={tmp_path}", "DATALOADER.TRAIN_WORKERS=3", "DATA.CACHE_SIZE_GB=2", "LOG.SAVE_DIR=/run"
    )
    require_same_config(Beside(as_values(tiny_config())), other)


def test_of_many_settings_three_are_named(tiny_config):
    keys = ["TRAIN.OPTIM.LR=0.5", "SEED=9", "DATA.CLIP_LEN=2", "MODEL.BASE_CHANNELS=8", "TRAIN.BATCH_SIZE=1"]
    with pytest.raises(DeblurkitError, match="SEED is 123 on rank 0 and 9 on rank 1, and 2 more;"):
        require_same_config(Beside(as_values(tiny_config())), tiny_config(*keys))
