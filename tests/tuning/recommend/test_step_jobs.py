"""One step for all optimisers, against a step predicted for each."""

import pytest

from deblurkit.config.load import load_config
from deblurkit.tuning.recommend.step_jobs import StepJob, predict_job, states_bytes
from deblurkit.tuning.step_memory import STATES, predict_step

GRANULE = 512  # bytes that a tensor takes at least


def config(*overrides):
    given = ["DATA.CROP_SIZE=32", "MODEL.BASE_CHANNELS=8", "DATA.NUM_VOXEL_BINS=4", *overrides]
    return load_config("quickstart", None, given, warn=lambda text: None)


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("TRAIN.BATCH_SIZE=2", "TRAIN.EMA_DECAY=0.9"),
        ("TRAIN.AMP_ENABLED=true", "TRAIN.AMP_DTYPE=fp16", "TRAIN.GRADIENT_ACCUMULATION_STEPS=3"),
    ],
    ids=["plain", "with a running mean", "scaled"],
)
def test_the_step_of_one_optimiser_tells_that_of_the_other_exactly(given):
    configs = tuple(config(*given, f"TRAIN.OPTIM.TYPE={kind}") for kind in ("adamw", "adamw8bit"))
    for order in (configs, configs[::-1]):
        found = predict_job(StepJob(order, "cpu", (48, 64)))
        for step, own in zip(found, order, strict=True):
            expected = predict_step(own, frame_shape=(48, 64))
            assert dict(step.phases) == dict(expected.phases)
            assert (step.step_peak_bytes, step.total_bytes) == (
                expected.step_peak_bytes,
                expected.total_bytes,
            )
            assert step.after_forward_bytes == expected.after_forward_bytes


def test_adams_states_are_two_numbers_a_weight_and_a_step_counter():
    from deblurkit.models.registry import build_model

    chosen = config()
    sizes = [w.numel() for w in build_model(chosen.model, num_voxel_bins=4).parameters()]
    expected = sum(2 * -(-4 * size // GRANULE) * GRANULE + GRANULE for size in sizes)
    assert states_bytes(chosen) == expected
    by_name = {row.name: row.bytes for row in predict_step(chosen).rows}
    assert by_name[STATES] == expected
