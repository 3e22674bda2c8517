"""What is offered, and that no estimate is below what a prediction finds."""

import dataclasses
import math

import pytest

from deblurkit.config.load import load_config
from deblurkit.tuning.change_options import options_for, with_settings
from deblurkit.tuning.change_prices import Situation
from deblurkit.tuning.host_memory import HostMemory
from deblurkit.tuning.step_memory import predict_step

SMALL = ["TRAIN.DEVICE=cpu", "DATA.NUM_VOXEL_BINS=2", "DATA.CLIP_LEN=4", "TRAIN.BATCH_SIZE=2"]
TINY_VRT = [
    *SMALL,
    "DATA.CROP_SIZE=64",
    "MODEL.VRT_DEPTHS=[2, 2, 1, 1, 1, 1, 2, 2]",
    "MODEL.VRT.EMBED_DIMS=[16, 16]",
    "MODEL.CHANNELS_PER_SCALE=[8, 8, 8, 8]",
]
RECOMPUTING = [*TINY_VRT, "MODEL.VRT.USE_CHECKPOINT_ATTN=true", "DATA.CROP_SIZE=40"]
FRAME = (96, 128)
WORKERS = ["DATALOADER.TRAIN_WORKERS=4", "DATALOADER.VAL_WORKERS=2"]


def config(*overrides, preset=None):
    return load_config(preset, None, overrides, warn=lambda text: None)


def of_host(*overrides, resource="ram", world_size=1):
    now = Situation(config(*WORKERS, *overrides), None, HostMemory((), world_size, 6), resource)
    return {tuple(option.settings.items()) for option in options_for(now)}


@pytest.mark.parametrize(
    ("preset", "chosen"),
    [
        ("quickstart", [*SMALL, "TRAIN.EMA_DECAY=0.9", "LOSS.LPIPS.WEIGHT=0.1"]),
        pytest.param("quickstart_vrt", TINY_VRT, marks=pytest.mark.slow),
        pytest.param("quickstart_vrt", RECOMPUTING, marks=pytest.mark.slow),
    ],
    ids=["U-Net", "VRT", "VRT that recomputes, with large frames"],
)
def test_nothing_frees_more_than_it_may(preset, chosen):
    before = config(*chosen, preset=preset)
    now = predict_step(before, frame_shape=FRAME)
    options = options_for(Situation(before, now, HostMemory((), 1, 0), "device", FRAME))
    assert [option.may_free for option in options] == sorted(
        (option.may_free for option in options), reverse=True
    )
    for option in options:
        freed = now.total_bytes - predict_step(option.config, frame_shape=FRAME).total_bytes
        assert freed <= option.may_free, option.settings


def test_loading_is_made_smaller_where_it_is_there():
    found = of_host()
    assert found == {
        (("DATALOADER.TRAIN_WORKERS", 2),),
        (("DATALOADER.TRAIN_PREFETCH_FACTOR", 2),),
        (("DATALOADER.VAL_WORKERS", 1),),
        (("DATALOADER.VAL_PREFETCH_FACTOR", 1),),
        (("DATA.VOXELS_ON", "device"),),
    }
    without = of_host("DATALOADER.TRAIN_WORKERS=0", "DATALOADER.VAL_WORKERS=0", "DATA.VOXELS_ON=device")
    assert without == set()


def test_shared_memory_may_do_without_workers_and_a_cache_may_go():
    none = (("DATALOADER.TRAIN_WORKERS", 0), ("DATALOADER.VAL_WORKERS", 0))
    assert none in of_host(resource="shm")
    cached = of_host("DATA.USE_RAM_CACHE=true", "DATA.CACHE_SIZE_GB=8.0") - of_host()
    assert cached == {(("DATA.CACHE_SIZE_GB", 4.0),), (("DATA.USE_RAM_CACHE", False),)}


def test_what_only_a_prediction_tells_comes_first():
    step = predict_step(config(*SMALL, preset="quickstart"))
    chosen = config(*SMALL, *WORKERS, preset="quickstart")
    options = options_for(Situation(chosen, step, HostMemory((), 1, 6), "ram"))
    assert [option.takes_step for option in options] == sorted(option.takes_step for option in options)
    assert all((option.may_free == math.inf) != option.takes_step for option in options)


def test_settings_that_no_run_can_have_together_make_no_configuration():
    assert with_settings(config(), {"TRAIN.PARALLEL": "fsdp"}) is not None
    assert with_settings(config("TRAIN.EMA_DECAY=0.9"), {"TRAIN.PARALLEL": "fsdp"}) is None
    assert with_settings(config(), {"TEST.TILE": [256, 256]}) is not None
    assert with_settings(config("TEST.TILE_OVERLAP=[2, 160, 160]"), {"TEST.TILE": [256, 256]}) is None
    assert with_settings(config(), {"TEST.TILE": [32, 32]}) is None  # windows of 8 at an eighth of it


def test_tiles_that_are_set_are_halved():
    chosen = config(*SMALL, "TEST.TILE=[3, 96, 112]", preset="quickstart")
    step = predict_step(chosen, frame_shape=(128, 160))
    held = step.phases | {"validation": 2 * step.peak_bytes}
    now = Situation(chosen, dataclasses.replace(step, phases=held), None, "device")
    assert [3, 48, 56] in [option.settings.get("TEST.TILE") for option in options_for(now)]
