import pytest

from deblurkit.errors import ConfigError
from deblurkit.training.support import check_supported


def test_a_setting_that_would_change_the_result_is_refused(tiny_config):
    with pytest.raises(ConfigError, match="VGG_PERCEPTUAL.WEIGHT: the perceptual loss is not built"):
        check_supported(tiny_config("LOSS.VGG_PERCEPTUAL.WEIGHT=0.1"))


def test_a_setting_without_effect_is_said(tiny_config):
    assert check_supported(tiny_config()) == []
    (warning,) = check_supported(tiny_config("DATALOADER.PERSISTENT_WORKERS=false"))
    assert warning.startswith("DATALOADER.PERSISTENT_WORKERS: training runs in one stream")


def test_training_on_the_held_out_split_is_said(tiny_config):
    (warning,) = check_supported(tiny_config("DATA.TRAIN_SPLIT=test"))
    assert warning.startswith("DATA.VAL_SPLIT: test is trained on too")


def test_an_untrained_flow_held_still_is_said(tiny_config):
    keys = ("MODEL.ARCH=vrt", "DATA.CROP_SIZE=64", "MODEL.FREEZE_FLOW_STEPS=10")
    assert any(
        text.startswith("MODEL.FREEZE_FLOW_STEPS: without") for text in check_supported(tiny_config(*keys))
    )
    trained = check_supported(tiny_config(*keys, "MODEL.PRETRAINED=weights.pth"))
    assert not any("FREEZE_FLOW" in text for text in trained)
