import pytest
import torch

from deblurkit.errors import DeblurkitError
from deblurkit.training import support
from deblurkit.training.support import check_supported


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


CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("device", "bf16", "more", "is_said"),
    [
        (CPU, False, ["TRAIN.AMP_DTYPE=bf16"], True),
        (CPU, False, ["TRAIN.AMP_DTYPE=fp16"], True),
        (CPU, True, [], False),
        (GPU, False, [], False),
        (CPU, False, ["TRAIN.AMP_OPT_LEVEL=O0"], False),
        (CPU, False, ["TRAIN.AMP_ENABLED=false"], False),
        (CPU, False, ["MODEL.ARCH=baseline"], False),
    ],
)
def test_mixed_precision_that_vrt_does_not_use_is_said(tiny_config, monkeypatch, device, bf16, more, is_said):
    monkeypatch.setattr(support, "cpu_multiplies_bf16", lambda: bf16)
    config = tiny_config("MODEL.ARCH=vrt", "DATA.CROP_SIZE=64", "TRAIN.AMP_ENABLED=true", *more)
    told = support.without_effect(config, device=device, total_steps=4)
    assert [text.startswith("TRAIN.AMP_ENABLED: this CPU only imitates") for text in told] == [True] * is_said


def test_a_flow_that_never_learns_is_said(tiny_config):
    config = tiny_config("MODEL.ARCH=vrt", "DATA.CROP_SIZE=64", "MODEL.FREEZE_FLOW_STEPS=4")
    (warning,) = support.without_effect(config, device=GPU, total_steps=4)
    assert warning.startswith("MODEL.FREEZE_FLOW_STEPS") and "never learn: the run has 4 steps" in warning
    assert support.without_effect(config, device=GPU, total_steps=5) == []


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (["TRAIN.COMPILE_MODEL=true"], "TRAIN.COMPILE_MODEL=true (leave it off)"),
        (["TRAIN.EMA_DECAY=0.9"], "TRAIN.EMA_DECAY (set it to 0)"),
        (["TRAIN.OPTIM.TYPE=adamw8bit"], "TRAIN.OPTIM.TYPE=adamw8bit (take adamw)"),
        (["TRAIN.AMP_ENABLED=true", "TRAIN.AMP_DTYPE=fp16"], "TRAIN.AMP_DTYPE=fp16 (take bf16"),
    ],
)
def test_what_only_whole_weights_can_do_is_refused_where_ranks_share_them(tiny_config, keys, named):
    with pytest.raises(DeblurkitError) as caught:
        check_supported(tiny_config("TRAIN.PARALLEL=fsdp", *keys))
    assert named in str(caught.value) and "\n" not in str(caught.value)
    assert check_supported(tiny_config(*keys)) == []


def test_what_goes_with_a_shared_network_is_not_refused(tiny_config):
    bf16 = ("TRAIN.AMP_ENABLED=true", "TRAIN.AMP_DTYPE=bf16")
    assert check_supported(tiny_config("TRAIN.PARALLEL=fsdp", *bf16)) == []
    float32 = ("TRAIN.AMP_ENABLED=true", "TRAIN.AMP_DTYPE=fp16", "TRAIN.AMP_OPT_LEVEL=O0")
    assert check_supported(tiny_config("TRAIN.PARALLEL=fsdp", *float32)) == []
