"""Clauses against figures worked out by hand."""

import pytest

from deblurkit.config.load import load_config
from deblurkit.config.schema import Config
from deblurkit.models.flops import model_flops
from deblurkit.models.registry import build_model
from deblurkit.tuning import change_prices as prices
from deblurkit.tuning.change_prices import Situation, recomputed_share
from deblurkit.tuning.host_memory import HostMemory
from deblurkit.tuning.overheads import MemoryRow
from deblurkit.tuning.step_memory import EMA, StepMemory

CLIP = (1, 2, 3, 64, 64)
ONE_BLOCK = [
    "DATA.CLIP_LEN=2",
    "DATA.CROP_SIZE=64",
    "DATA.NUM_VOXEL_BINS=2",
    "MODEL.VRT_DEPTHS=[1, 1, 1, 1, 1, 1, 1, 1]",
    "MODEL.WINDOW_SIZE=[2, 4, 4]",
    "MODEL.VRT.EMBED_DIMS=[8, 8]",
    "MODEL.CHANNELS_PER_SCALE=[4, 4, 4, 4]",
    "MODEL.VRT.DEFORMABLE_GROUPS=4",
]


def config(*overrides, preset=None):
    return load_config(preset, None, overrides, warn=lambda text: None)


def step(kind="cuda", **rows):
    held = tuple(MemoryRow(name, count, "") for name, count in rows.items())
    return StepMemory(kind, "", CLIP, held, held, {"backward": sum(rows.values())}, ())


def told(price, before, after, *, now=None, frame_shape=None, world_size=1):
    host = HostMemory((), world_size, 0)
    return price(Situation(before, now, host, "device", frame_shape), after)


def one_block(*overrides):
    return config(*ONE_BLOCK, *overrides, preset="quickstart_vrt")


def test_the_share_that_is_made_again_is_that_of_the_branches_by_their_formulas():
    """A token of 8 channels in windows of 32: qkv and projection 4 C^2, both products 2 L C; MLP 6 C^2."""
    chosen = one_block()
    tokens = 2 * 64 * 64 * (1 + 1 / 4 + 1 / 16 + 1 / 64 + 1 / 16 + 1 / 4 + 1 + 1)
    whole = model_flops(
        lambda: build_model(chosen.model, num_voxel_bins=2), CLIP, spikes_shape=(1, 2, 2, 32, 32)
    )
    attention = 2 * tokens * (4 * 8**2 + 2 * 32 * 8) / whole
    assert recomputed_share(chosen, "attn", clip_shape=CLIP) == pytest.approx(attention)
    assert recomputed_share(chosen, "mlp", clip_shape=CLIP) == pytest.approx(2 * tokens * 6 * 8**2 / whole)
    line = told(prices.attention_again, chosen, chosen, now=step())
    assert f"{attention:.1%}".replace("%", " %") in line
    assert f"{attention / 3:.1%}".replace("%", " % more operations") in line


def test_stages_that_recompute_already_are_not_counted():
    flags = "[true, true, true, true, true, true, true, false]"
    all_of_it = recomputed_share(one_block(), "mlp", clip_shape=CLIP)
    last = recomputed_share(one_block(f"MODEL.VRT.USE_CHECKPOINT_FFN={flags}"), "mlp", clip_shape=CLIP)
    scales = 1 + 1 / 4 + 1 / 16 + 1 / 64 + 1 / 16 + 1 / 4 + 1 + 1
    assert last == pytest.approx(all_of_it / scales)


@pytest.mark.parametrize(
    ("price", "before", "after", "figures"),
    [
        (
            prices.smaller_parts,
            ["TRAIN.BATCH_SIZE=4", "TRAIN.GRADIENT_ACCUMULATION_STEPS=3"],
            ["TRAIN.BATCH_SIZE=2", "TRAIN.GRADIENT_ACCUMULATION_STEPS=6"],
            "2 x 6 instead of 4 x 3: 2 x the kernel launches",
        ),
        (prices.smaller_crops, [], ["DATA.CROP_SIZE=192"], "(192 / 256)^2 = 0.56 x the pixels"),
        (prices.shorter_clips, [], ["DATA.CLIP_LEN=3"], "3 / 5 = 0.60 x the frames"),
        (prices.eight_bits, [], ["TRAIN.OPTIM.TYPE=adamw8bit"], "496 / 90 = 5.5 x as long"),
        (
            prices.no_lpips,
            ["LOSS.LPIPS.WEIGHT=0.1", "LOSS.LPIPS.EVERY_N_STEPS=4"],
            [],
            "without LOSS.LPIPS (weight 0.1); 1 of 4 steps",
        ),
        (prices.clip_by_clip, ["TRAIN.VAL_BATCH_SIZE=3"], [], "3 / 1 = 3 x as often"),
        (
            prices.fewer_workers,
            ["DATALOADER.TRAIN_WORKERS=5"],
            ["DATALOADER.TRAIN_WORKERS=2"],
            "5 / 2 = 2.5 x as long to load a batch",
        ),
        (
            prices.fewer_workers,
            ["DATALOADER.TRAIN_WORKERS=1"],
            ["DATALOADER.TRAIN_WORKERS=0"],
            "0 of 1 workers: the training process loads a batch itself",
        ),
        (
            prices.less_ready,
            ["DATALOADER.TRAIN_PREFETCH_FACTOR=5"],
            ["DATALOADER.TRAIN_PREFETCH_FACTOR=2"],
            "2 instead of 5 batches ready, so that 2 / 5 = 0.40 of a stall",
        ),
        (
            prices.half_the_cache,
            ["DATA.CACHE_SIZE_GB=3.0"],
            ["DATA.CACHE_SIZE_GB=1.5"],
            "1.5 / 3 = 0.50 of what they are",
        ),
        (prices.no_cache, [], [], "2 x 5 frames x 16 ms = 160 ms"),
        # 2 clips of 5 frames, blurry and sharp, of 3 x 64 x 64 bytes: 240 KiB
        (prices.pageable, ["DATA.CROP_SIZE=64"], ["DATA.CROP_SIZE=64", "TRAIN.BATCH_SIZE=2"], "240.0 KiB of"),
        # 5 frames of 32 bins at 32 x 32 spike pixels: 163,840
        (prices.voxels_on_device, [], ["DATA.CROP_SIZE=64"], "the training process makes 163.8 k voxels"),
    ],
)
def test_the_arithmetic_is_shown(price, before, after, figures):
    assert figures in told(price, config(*before), config(*after))


def test_the_mean_is_counted_in_weights():
    now = step(**{EMA: 4 * 15_600_000})
    assert "15.6 M weights" in told(prices.no_mean, Config(), Config(), now=now)


def test_tiles_are_counted_with_their_overlap():
    """256 px, sharing 24 or more (20 on the grid of 8): 3 of them cover 720 px, 6 cover 1280."""
    before, after = config(), config("TEST.TILE=[256, 256]")
    line = told(prices.smaller_tiles, before, after, frame_shape=(720, 1280))
    assert "18 tiles of 256 x 256 px are 1.28 x the 720 x 1280 px" in line  # 768 * 1536 / (720 * 1280)
    assert "18" not in told(prices.smaller_tiles, before, after)


def test_ranks_that_share_exchange_the_weights_more_often():
    chosen = config("TRAIN.GRADIENT_ACCUMULATION_STEPS=3", "TRAIN.PARALLEL=fsdp")
    now = step(parameters=70 * 2**20)
    line = told(prices.shared_states, config(), chosen, now=now, world_size=4)
    assert "2 x 3 gathers and 1 reduction of 70.0 MiB" in line
