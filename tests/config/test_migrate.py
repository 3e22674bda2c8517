import pytest

from deblurkit.config.layers import layer_of_text
from deblurkit.config.load import combine
from deblurkit.config.migrate import RENAMED, WITHOUT_EFFECT
from deblurkit.config.schema import flat_values, known_keys


def load(text):
    layer = layer_of_text(text, name="old.yaml")
    return flat_values(combine([layer]).config), layer.warnings


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("TRAIN: {NUM_WORKERS: 3}", "DATALOADER.TRAIN_WORKERS", 3),
        ("DATALOADER: {NUM_WORKERS: 3}", "DATALOADER.TRAIN_WORKERS", 3),
        ("num_workers: 16", "DATALOADER.TRAIN_WORKERS", 16),
        ("DATALOADER: {PREFETCH_FACTOR: 8}", "DATALOADER.TRAIN_PREFETCH_FACTOR", 8),
        ("TRAIN: {USE_AMP: true}", "TRAIN.AMP_ENABLED", True),
        ("USE_AMP: true", "TRAIN.AMP_ENABLED", True),
        ("use_amp: true", "TRAIN.AMP_ENABLED", True),
        ("batch_size: 4", "TRAIN.BATCH_SIZE", 4),
        ("TRAIN: {batch_size: 4}", "TRAIN.BATCH_SIZE", 4),
        ("base_channels: 48", "MODEL.BASE_CHANNELS", 48),
        ("MODEL: {num_blocks: 3}", "MODEL.NUM_BLOCKS", 3),
        ("MODEL: {VRT: {use_checkpoint_attn: false}}", "MODEL.VRT.USE_CHECKPOINT_ATTN", False),
        ("MODEL: {VRT: {use_checkpoint_ffn: false}}", "MODEL.VRT.USE_CHECKPOINT_FFN", False),
    ],
)
def test_an_older_name_works_and_is_told_with_the_new_one(text, key, value):
    values, warnings = load(text)
    assert values[key] == value
    assert len(warnings) == 1
    assert warnings[0].startswith("old.yaml:1: ")
    assert warnings[0].endswith(f"is an older name; write {key}")


def test_the_older_worker_count_gives_way_to_the_dataloader_section():
    values, (warning,) = load("TRAIN: {NUM_WORKERS: 3}\nDATALOADER: {TOTAL_WORKERS: 8}")
    assert (values["DATALOADER.TRAIN_WORKERS"], values["DATALOADER.TOTAL_WORKERS"]) == ("auto", 8)
    assert (
        warning
        == "old.yaml:1: TRAIN.NUM_WORKERS is an older name and is left out; DATALOADER.TOTAL_WORKERS decides"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "TRAIN:\n  USE_AMP: true\n  AMP_ENABLED: true\n",
            "old.yaml:2: TRAIN.USE_AMP: sets the same as TRAIN.AMP_ENABLED (old.yaml:3);"
            " keep only TRAIN.AMP_ENABLED",
        ),
        (
            "USE_AMP: true\nTRAIN:\n  USE_AMP: false\n",
            "old.yaml:1: USE_AMP: sets the same as TRAIN.USE_AMP (old.yaml:3); keep only TRAIN.AMP_ENABLED",
        ),
        (
            "DATA:\n  K: 16\n  NUM_VOXEL_BINS: 32\n",
            "old.yaml:2: DATA.K: disagrees with DATA.NUM_VOXEL_BINS (old.yaml:3);"
            " keep only DATA.NUM_VOXEL_BINS",
        ),
    ],
)
def test_two_names_of_one_key_are_told_with_both_places(text, problem):
    assert [str(found) for found in layer_of_text(text, name="old.yaml").problems] == [problem]


def test_k_alone_or_beside_an_equal_number_of_bins_is_fine():
    for text in ("DATA: {K: 16}", "DATA: {K: 16, NUM_VOXEL_BINS: 16}"):
        values, warnings = load(text)
        assert (values["DATA.NUM_VOXEL_BINS"], warnings) == (16, [])


def test_a_later_source_may_use_the_other_name():
    first = layer_of_text("DATA: {NUM_VOXEL_BINS: 8}", name="preset quickstart")
    second = layer_of_text("DATA: {K: 16}", name="run.yaml")
    assert combine([first, second]).config.data.num_voxel_bins == 16
    assert combine([second, first]).config.data.num_voxel_bins == 8


def test_a_wrong_value_under_an_older_name_is_told_under_both():
    layer = layer_of_text("num_workers: many", name="old.yaml")
    with pytest.raises(
        Exception, match=r"old.yaml:1: DATALOADER.TRAIN_WORKERS \(written num_workers\): expected"
    ):
        combine([layer])


def test_a_key_without_effect_is_told():
    _, (warning,) = load("MODEL: {VRT_CFG: third_party/VRT/options/deblur/vrt_base.yaml}")
    assert warning.startswith(
        "old.yaml:1: MODEL.VRT_CFG is not used: the network is built from the MODEL keys"
    )
    assert load("MODEL: {VRT_CFG: null}")[1] == []


def test_the_table_leads_from_names_that_are_not_keys_to_keys():
    assert {rename.new for rename in RENAMED} <= known_keys().keys()
    assert {rename.old for rename in RENAMED} & known_keys().keys() == {"DATA.K"}
    assert WITHOUT_EFFECT.keys() <= known_keys().keys()
