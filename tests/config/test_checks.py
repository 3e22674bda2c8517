import pytest

from deblurkit.config.checks import contradictions
from deblurkit.config.sections.data import DataSection
from deblurkit.config.sections.model import ModelSection
from deblurkit.config.sections.run import PromiseSection
from deblurkit.config.sections.train import LossSection, TrainSection


def found(data=None, model=None, train=None, loss=None, promise=None):
    return contradictions(
        DataSection.model_validate(data or {}),
        ModelSection.model_validate(model or {}),
        TrainSection.model_validate(train or {}),
        LossSection.model_validate(loss or {}),
        PromiseSection.model_validate(promise or {}),
    )


@pytest.mark.parametrize(
    ("sections", "key", "message"),
    [
        ({"data": {"K": 16, "NUM_VOXEL_BINS": 32}}, "DATA.K", "K is 16 and NUM_VOXEL_BINS 32"),
        (
            {"data": {"CROP_SIZE": 64, "TRAIN_CROP_SIZE": 128}},
            "DATA.TRAIN_CROP_SIZE",
            "at most CROP_SIZE (64)",
        ),
        ({"data": {"CROP_SIZE": 32}}, "DATA.CROP_SIZE", "at least 40 px for MODEL.ARCH vrt"),
        ({"data": {"TRAIN_CROP_SIZE": 32}}, "DATA.TRAIN_CROP_SIZE", "at least 40 px for MODEL.ARCH vrt"),
        ({"data": {"CLIP_LEN": 1}}, "DATA.CLIP_LEN", "at least 2 frames"),
        ({"data": {"TRAIN_CLIP_LEN": 1}}, "DATA.TRAIN_CLIP_LEN", "at least 2 frames"),
        (
            {"data": {"CLIP_LEN": 4, "TRAIN_CLIP_LEN": [2, 6], "TRAIN_CLIP_EPOCHS": 1}},
            "DATA.TRAIN_CLIP_LEN",
            "expected at most CLIP_LEN (4), got 6",
        ),
        (
            {"data": {"TRAIN_CLIP_LEN": [2, 3]}},
            "DATA.TRAIN_CLIP_EPOCHS",
            "the epochs that each of 2 sizes lasts",
        ),
        (
            {"data": {"TRAIN_CROP_SIZE": [64, 96]}},
            "DATA.TRAIN_CROP_EPOCHS",
            "the epochs that each of 2 sizes lasts",
        ),
        (
            {"loss": {"CHARBONNIER": {"WEIGHT": 0.0}}},
            "LOSS.CHARBONNIER.WEIGHT",
            "expected a term of the loss in every step, got terms not at all",
        ),
        (
            {"loss": {"CHARBONNIER": {"EVERY_N_STEPS": 2}, "LPIPS": {"WEIGHT": 1.0, "EVERY_N_STEPS": 3}}},
            "LOSS.CHARBONNIER.EVERY_N_STEPS",
            "got terms only in every few steps",
        ),
        (
            {
                "loss": {"CHARBONNIER": {"WEIGHT": 0.0}},
                "train": {"DISTILL": {"TEACHER": "t.pt", "EVERY_N_STEPS": 2}},
            },
            "LOSS.CHARBONNIER.WEIGHT",
            "got terms only in every few steps",
        ),
        ({"model": {"VRT_DEPTHS": [8] * 9}}, "MODEL.VRT_DEPTHS", "expected 8, 11 or 13 values"),
        ({"model": {"LAYERS": 3}}, "MODEL.CHANNELS_PER_SCALE", "each of the 3 LAYERS, got 4"),
        ({"data": {"CROP_SIZE": 48}}, "DATA.CROP_SIZE", "at least 64 px, 8 times the window of 8, got 48"),
        (
            {"data": {"CROP_SIZE": 64}, "model": {"WINDOW_SIZE": [6, 8, 10]}},
            "DATA.CROP_SIZE",
            "at least 80 px, 8 times the window of 10",
        ),
        (
            {"model": {"LAYERS": 2, "CHANNELS_PER_SCALE": [96, 96]}},
            "MODEL.LAYERS",
            "expected 4 for MODEL.ARCH vrt, which takes spikes in after stages 1 to 4, got 2",
        ),
        ({"model": {"VRT": {"NUM_HEADS": 5}}}, "MODEL.VRT.EMBED_DIMS", "of NUM_HEADS (5), got 96"),
        ({"model": {"VRT": {"DEFORMABLE_GROUPS": 7}}}, "MODEL.VRT.DEFORMABLE_GROUPS", "1 x 96 channels"),
        (
            {"model": {"VRT": {"PA_FRAMES": 6, "EMBED_DIMS": [16, 16], "NUM_HEADS": 2}}},
            "MODEL.VRT.EMBED_DIMS",
            "a multiple of 3, the frames PA_FRAMES aligns on a side, got 16",
        ),
        (
            {"model": {"VRT": {"PA_FRAMES": 4, "DEFORMABLE_GROUPS": 3}}},
            "MODEL.VRT.DEFORMABLE_GROUPS",
            "a multiple of 2, so that each of the frames on a side moves as many taps, got 3",
        ),
        (
            {"model": {"VRT": {"INDEP_RECONSTS": [9]}}},
            "MODEL.VRT.INDEP_RECONSTS",
            "stage 8's groups, 7, got 9",
        ),
        ({"model": {"FUSE": {"HEADS": 5}}}, "MODEL.FUSE.HEADS", "got 5, which does not divide 96"),
        ({"model": {"SPIKE_TSA": {"HEADS": 7}}}, "MODEL.SPIKE_TSA.HEADS", "got 7, which does not divide 96"),
        ({"train": {"MAX_STEPS": 10}}, "TRAIN.SCHED.WARMUP_STEPS", "longer than the run of MAX_STEPS 10"),
        (
            {"train": {"SCHED": {"MIN_LR": 1.0}}},
            "TRAIN.SCHED.MIN_LR",
            "at most TRAIN.OPTIM.LR (0.0002), got 1",
        ),
    ],
)
def test_each_contradiction_names_its_key_and_both_values(sections, key, message):
    (only,) = found(**sections)
    assert only.keys[0] == key
    assert message in only.message


@pytest.mark.parametrize(
    ("promise", "message"),
    [
        ({"SAMPLES_PER_SECOND": 2.0}, "expected LOW, SAMPLES_PER_SECOND and HIGH together"),
        ({"LOW": 1.0, "HIGH": 2.0}, "expected LOW, SAMPLES_PER_SECOND and HIGH together"),
        (
            {"LOW": 2.5, "SAMPLES_PER_SECOND": 2.0, "HIGH": 3.0},
            "LOW <= SAMPLES_PER_SECOND <= HIGH, got 2.5, 2, 3",
        ),
        ({"LOW": 1.0, "SAMPLES_PER_SECOND": 2.0, "HIGH": 1.5}, "got 1, 2, 1.5"),
    ],
)
def test_a_promised_rate_lies_in_its_interval(promise, message):
    (only,) = found(promise=promise)
    assert only.keys == tuple(
        f"PROMISE.{key}" for key in ("LOW", "SAMPLES_PER_SECOND", "HIGH") if key in promise
    )
    assert message in only.message


def test_a_whole_promise_agrees_and_so_does_one_of_memory_alone():
    assert found(promise={"LOW": 1.0, "SAMPLES_PER_SECOND": 1.0, "HIGH": 1.0}) == []
    assert found(promise={"PEAK_BYTES": 2**30, "HARDWARE": "a machine"}) == []


def test_defaults_and_the_published_depths_agree():
    assert found() == []
    assert found(model={"VRT_DEPTHS": [8] * 7 + [4] * 4}) == []  # the GoPro checkpoint of VRT
    assert found(model={"VRT_DEPTHS": [8] * 7 + [4] * 6}) == []


@pytest.mark.parametrize(
    "sections",
    [
        {"loss": {"CHARBONNIER": {"WEIGHT": 0.0}, "LPIPS": {"WEIGHT": 1.0}}},
        {"loss": {"CHARBONNIER": {"EVERY_N_STEPS": 9}, "VGG_PERCEPTUAL": {"WEIGHT": 0.1}}},
        {"loss": {"CHARBONNIER": {"WEIGHT": 0.0}}, "train": {"DISTILL": {"TEACHER": "t.pt"}}},
    ],
)
def test_any_term_can_be_the_one_that_every_step_has(sections):
    assert found(**sections) == []


def test_small_crops_and_single_frames_are_fine_for_the_light_networks():
    assert found(data={"CROP_SIZE": 16, "CLIP_LEN": 1}, model={"ARCH": "baseline"}) == []
