"""Predictions against the real-mode tracker, and against numbers that follow from the configuration."""

import gc

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

from deblurkit.config.load import load_config
from deblurkit.memory.tensors import GRADIENTS, INPUTS, PARAMETERS
from deblurkit.models.registry import build_model
from deblurkit.training.perceptual import untrained_lpips
from deblurkit.tuning.step_memory import EMA, LOSS, STATES, VALIDATION, measure_step, predict_step

VRT = [
    "DATA.CLIP_LEN=2",
    "DATA.CROP_SIZE=40",
    "DATA.NUM_VOXEL_BINS=2",
    "MODEL.VRT_DEPTHS=[1, 1, 1, 1, 1, 1, 1, 1]",
    "MODEL.VRT.EMBED_DIMS=[8, 8]",
    "MODEL.VRT.NUM_HEADS=1",
    "MODEL.CHANNELS_PER_SCALE=[4, 4, 4, 4]",
    "TRAIN.BATCH_SIZE=1",
]
LIGHT = ["DATA.CROP_SIZE=32", "MODEL.BASE_CHANNELS=8", "DATA.NUM_VOXEL_BINS=4"]
CHECKPOINTED = ["MODEL.VRT.USE_CHECKPOINT_ATTN=true", "MODEL.VRT.USE_CHECKPOINT_FFN=true"]


def config(preset, *overrides):
    return load_config(preset, None, ["TRAIN.DEVICE=cpu", *overrides], warn=lambda text: None)


def light(*overrides):
    return config("quickstart", *LIGHT, *overrides)


def by_name(rows):
    return {row.name: row.bytes for row in rows}


def fake_tensors():
    gc.collect()
    return sum(type(thing) is FakeTensor for thing in gc.get_objects())


def assert_alike(predicted, measured):
    assert predicted.step_peak_bytes == pytest.approx(measured.step_peak_bytes, rel=0.03)
    assert predicted.after_forward_bytes == pytest.approx(measured.after_forward_bytes, rel=0.03)
    assert predicted.phases.keys() == measured.phases.keys()
    for phase, count in measured.phases.items():
        assert predicted.phases[phase] == pytest.approx(count, rel=0.03), phase


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("MODEL.ARCH=convnext", "TRAIN.GRADIENT_ACCUMULATION_STEPS=3", "TRAIN.EMA_DECAY=0.9"),
        ("TRAIN.AMP_ENABLED=true", "TRAIN.OPTIM.TYPE=adamw8bit", "TEST.TILE=[32, 40]"),
        ("MODEL.USE_SPIKE=false", "TRAIN.NONFINITE_GUARD=false", "TRAIN.MAX_GRAD_NORM=0.0"),
    ],
    ids=["plain", "accumulating", "16 bits", "frames alone"],
)
def test_a_light_network_is_predicted_as_it_is_measured(more):
    chosen = light(*more)
    assert_alike(predict_step(chosen, frame_shape=(48, 64)), measure_step(chosen, frame_shape=(48, 64)))


@pytest.mark.parametrize(
    "more",
    [[], CHECKPOINTED, ["TRAIN.GRADIENT_ACCUMULATION_STEPS=2"]],
    ids=["keeping", "recomputing", "accumulating"],
)
def test_vrt_is_predicted_as_it_is_measured_and_leaves_nothing_fake(more):
    chosen = config("quickstart_vrt", *VRT, *more)
    before = fake_tensors()  # other tests may have left some
    predicted = predict_step(chosen)
    assert fake_tensors() <= before
    measured = measure_step(chosen)  # also where the caches were filled by the prediction
    assert_alike(predicted, measured)
    assert by_name(predicted.rows)[GRADIENTS] == pytest.approx(by_name(measured.rows)[GRADIENTS], rel=0.01)


def test_work_that_is_done_piece_by_piece_is_predicted_from_its_first_pieces(monkeypatch):
    monkeypatch.setattr("deblurkit.models.vrt.alignment._LIVE_SAMPLES_CPU", 9 * 8 * 40 * 7)  # 7 rows
    monkeypatch.setattr("deblurkit.models.vrt.kernels._LIVE_SCORES", 3 * 32**2)  # 3 windows
    chosen = config("quickstart_vrt", *VRT, "MODEL.USE_SPIKE=false")
    assert_alike(predict_step(chosen), measure_step(chosen))


def test_what_stays_is_what_the_configuration_says():
    chosen = light("TRAIN.EMA_DECAY=0.9", "TRAIN.GRADIENT_ACCUMULATION_STEPS=2", "TRAIN.BATCH_SIZE=2")
    weights = [w.numel() for w in build_model(chosen.model, num_voxel_bins=4).parameters()]
    held = by_name(predict_step(chosen).rows)

    def rounded(count):
        return -(-count // 512) * 512

    assert held[PARAMETERS] == held[EMA] == held[GRADIENTS] == sum(rounded(4 * n) for n in weights)
    assert held[STATES] == sum(2 * rounded(4 * n) + 512 for n in weights)  # two moments and a step each
    frames, voxels = 2 * 3 * 3 * 32 * 32, 4 * (2 * 3 * 4 * 16 * 16)
    assert held[INPUTS] == 2 * frames + voxels + 2 * 4 * frames  # as loaded, and frames as float32


def test_what_could_never_fit_is_predicted_all_the_same():
    """The largest activation alone, 64 channels at half the size, has 512 GiB."""
    chosen = config("quickstart", "DATA.CROP_SIZE=65536", "MODEL.BASE_CHANNELS=64", "DATA.CLIP_LEN=1")
    chosen = chosen.model_copy(update={"train": chosen.train.model_copy(update={"batch_size": 2})})
    assert predict_step(chosen).after_forward_bytes > 2 * 64 * 4 * (65536 // 2) ** 2


def test_the_largest_stage_of_the_schedules_counts():
    grows = light("DATA.TRAIN_CROP_SIZE=[16]", "DATA.TRAIN_CROP_EPOCHS=2", "TRAIN.BATCH_SIZE=1")
    stays = light("TRAIN.BATCH_SIZE=1")
    assert predict_step(grows).clip_shape == (1, 3, 3, 32, 32)
    assert predict_step(grows).phases == predict_step(stays).phases


def test_a_network_of_the_loss_needs_no_file_and_is_counted():
    chosen = light("LOSS.LPIPS.WEIGHT=0.1", "LOSS.LPIPS.EVERY_N_STEPS=4")
    found = predict_step(chosen)
    network = untrained_lpips("alex", torch.device("cpu"))
    weights = sum(value.nbytes for value in network.state_dict().values())
    held = by_name(found.rows)
    assert weights <= held[LOSS] < weights + 512 * len(network.state_dict())
    assert held["activations: loss lpips"] > 0


def test_a_validation_holds_what_its_tile_needs():
    whole = predict_step(light(), frame_shape=(96, 128)).phases[VALIDATION]
    tiled = predict_step(light("TEST.TILE=[48, 64]"), frame_shape=(96, 128)).phases[VALIDATION]
    assert tiled < whole
    assert VALIDATION not in predict_step(light()).phases


def test_a_gpu_has_overheads_and_16_bits_pay_there():
    halved = config("quickstart_vrt", *VRT, "TRAIN.AMP_ENABLED=true")
    cpu_like, cuda = predict_step(config("quickstart_vrt", *VRT)), predict_step(halved, device_kind="cuda")
    assert cpu_like.overheads == () and cuda.overheads
    assert "from CPU shapes" in cuda.source
    assert cuda.after_forward_bytes < cpu_like.after_forward_bytes
    assert cuda.total_bytes > cuda.peak_bytes
