"""Validations that are taken over, against those of a whole prediction."""

import pytest

from deblurkit.config.changed import changed
from deblurkit.config.load import load_config
from deblurkit.tuning.step_memory import predict_step
from deblurkit.tuning.validation_kept import keeps_validation, with_validation

CHOSEN = ["DATA.NUM_VOXEL_BINS=2", "DATA.CLIP_LEN=3", "DATA.CROP_SIZE=64", "TRAIN.BATCH_SIZE=2"]
TINY_VRT = [
    "DATA.CLIP_LEN=2",
    "MODEL.VRT_DEPTHS=[1, 1, 1, 1, 1, 1, 1, 1]",
    "MODEL.VRT.EMBED_DIMS=[8, 8]",
    "MODEL.VRT.NUM_HEADS=1",
    "MODEL.CHANNELS_PER_SCALE=[4, 4, 4, 4]",
]
FRAME = (96, 128)


def config(*overrides, preset="quickstart"):
    return load_config(preset, None, [*CHOSEN, *overrides], warn=lambda text: None)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"TRAIN.BATCH_SIZE": 1, "TRAIN.GRADIENT_ACCUMULATION_STEPS": 2}, True),
        ({"DATA.CROP_SIZE": 32}, True),
        ({"TRAIN.BATCH_SIZE": 1, "TRAIN.VAL_BATCH_SIZE": 3}, False),
        ({"DATA.CLIP_LEN": 2}, False),
        ({"TRAIN.EMA_DECAY": 0.9}, False),
        ({"TRAIN.AMP_ENABLED": True}, False),
    ],
)
def test_what_a_validation_does_not_read_leaves_it_as_it_is(settings, kept):
    now = config()
    assert keeps_validation(now, changed(now, settings)) is kept


@pytest.mark.parametrize(
    ("preset", "chosen", "settings"),
    [
        (
            "quickstart",
            ["TRAIN.EMA_DECAY=0.9"],
            {"TRAIN.BATCH_SIZE": 1, "TRAIN.GRADIENT_ACCUMULATION_STEPS": 2},
        ),
        ("quickstart", [], {"DATA.CROP_SIZE": 40}),
        ("quickstart_vrt", TINY_VRT, {"TRAIN.BATCH_SIZE": 1, "TRAIN.GRADIENT_ACCUMULATION_STEPS": 2}),
    ],
    ids=["batch", "crop", "VRT"],
)
@pytest.mark.parametrize("device_kind", ["cpu", "cuda"])
def test_what_is_taken_over_is_what_a_whole_prediction_says(preset, chosen, settings, device_kind):
    now = config(*chosen, preset=preset)
    after = changed(now, settings)
    whole = {"device_kind": device_kind, "frame_shape": FRAME}
    before, expected = predict_step(now, **whole), predict_step(after, **whole)
    found = with_validation(predict_step(after, device_kind=device_kind), before, now=now, after=after)
    assert found == expected
